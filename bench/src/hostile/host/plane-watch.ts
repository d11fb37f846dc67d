import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { EngineFallback } from '@xenpv/blockdev';
import type { PlaneFailedEvent, PlaneRestedEvent, RingOverlookedEvent } from '@xenpv/xen-block';

/** Channels that an operator reads in the log, each line of which a guest can cause. */
const LOGGED = [
  'xen-block:request:refused',
  'xen-block:storage:error',
  'xen-block:device:stopped',
  'xen-block:device:ignored',
  'xen-block:storage:stalled',
  'xen-block:device:abandoned',
  'xen-block:device:prepared',
  'xen-block:device:connected',
  'xen-block:device:disconnected',
  'xen-block:device:closed',
  'xenbus:device:error',
  'xenbus:device:held',
  'xenbus:device:orphaned',
] as const;

const NO_EVENT = 'its frontend sends no event for the next request';

/** Looks at the data planes of this process after each of their runs, and hears what they say of themselves. */
export class PlaneWatch implements Disposable {
  checks = 0;
  /** Messages that a log would have. */
  logged = 0;
  /** Of them all: as large as a line with all that they tell. */
  loggedBytes = 0;
  failed = false;
  /** Never resolves; rejects with the first rule that does not hold. */
  readonly broken: Promise<never>;
  readonly #listeners: Record<string, (event: never) => void>;

  /** `scribbled`: guests write to the index at which the backend asks for an event, and send one each time. */
  constructor({ scribbled }: { readonly scribbled: boolean }) {
    let reject: (error: Error) => void = () => {};
    this.broken = new Promise<never>((_, no) => {
      reject = no;
    });
    this.broken.catch(() => {});
    const fail = (text: string) => {
      this.failed = true;
      reject(new Error(text));
    };
    const count = (event: unknown) => {
      this.logged++;
      this.loggedBytes += JSON.stringify(event, errorText)?.length ?? 0;
    };
    this.#listeners = {
      ...Object.fromEntries(LOGGED.map((channel) => [channel, count])),
      'blockdev:engine:fallback': ({ reason }: EngineFallback) => console.log(`  no io_uring: ${reason}`),
      'xen-block:plane:rested': (event: PlaneRestedEvent) => {
        this.checks++;
        const broken = event.broken();
        if (broken !== undefined && !(scribbled && broken.endsWith(NO_EVENT)))
          fail(`a data plane rests, and ${broken}`);
      },
      'xen-block:plane:failed': ({ ring, error }: PlaneFailedEvent) => {
        fail(`an exception in a data plane, ring ${ring}: ${error instanceof Error ? error.stack : error}`);
      },
      'xen-block:ring:overlooked': (event: RingOverlookedEvent) => {
        fail(`nobody looked at a ring: ${JSON.stringify(event)}`);
      },
    };
    for (const [name, listener] of Object.entries(this.#listeners)) subscribe(name, listener as (e: unknown) => void);
  }

  [Symbol.dispose](): void {
    for (const [name, listener] of Object.entries(this.#listeners)) unsubscribe(name, listener as (e: unknown) => void);
  }
}

function errorText(_key: string, value: unknown): unknown {
  return value instanceof Error ? value.message : value;
}
