import type { Domid } from '@xenpv/xen-sys';
import type { ErrnoName } from './tree/store.js';
import type { EventInterceptor, OutgoingEvent } from './watches/events.js';

/** What a test may have happen to a xenstored while it runs; each part may be left out. */
export interface XenstoredInterceptor {
  /** Asked at every commit of domain `domid` that would succeed: true makes it EAGAIN. */
  readonly conflict?: ((domid: Domid) => boolean) | undefined;
  /** Stands between an event and its client: it is sent when `send` is called, unless the watch is gone by then. */
  readonly event?: EventInterceptor | undefined;
  /** Asked of every new connection: false ends it at once. */
  readonly admit?: ((domid: Domid) => boolean) | undefined;
  /** Told of each request that was answered with an error, an errno's name. */
  readonly refused?: ((domid: Domid, error: string) => void) | undefined;
}

/** The interceptors that are there now, as one. */
export class Interceptors {
  readonly #all = new Set<XenstoredInterceptor>();
  readonly #changed: () => void;

  /** `changed` is told that one came or went. */
  constructor(changed: () => void) {
    this.#changed = changed;
  }

  add(interceptor: XenstoredInterceptor): () => void {
    // A copy: the same one may be given twice.
    const added = { ...interceptor };
    this.#all.add(added);
    this.#changed();
    return () => {
      if (this.#all.delete(added)) this.#changed();
    };
  }

  /** All are asked, so that each can count. */
  conflict(domid: Domid): boolean {
    let conflict = false;
    for (const interceptor of this.#all) conflict = interceptor.conflict?.(domid) === true || conflict;
    return conflict;
  }

  /** Undefined if no one asks for events. */
  get event(): EventInterceptor | undefined {
    const events = [...this.#all].flatMap(({ event }) => event ?? []);
    if (events.length === 0) return undefined;
    return (event, send) => passThrough(events, event, send);
  }

  /** Undefined if everyone is admitted. */
  get admits(): ((domid: Domid) => boolean) | undefined {
    const admits = [...this.#all].flatMap(({ admit }) => admit ?? []);
    if (admits.length === 0) return undefined;
    return (domid) => admits.map((admit) => admit(domid)).every((admitted) => admitted);
  }

  refused(domid: Domid, error: ErrnoName): void {
    for (const interceptor of this.#all) interceptor.refused?.(domid, error);
  }
}

function passThrough(interceptors: readonly EventInterceptor[], event: OutgoingEvent, send: () => void): void {
  const [first, ...others] = interceptors;
  if (first === undefined) send();
  else first(event, () => passThrough(others, event, send));
}
