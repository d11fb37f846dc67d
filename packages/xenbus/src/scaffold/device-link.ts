import {
  type Domid,
  type EvtchnPort,
  type GrantMapping,
  type GrantTable,
  parseEvtchnPort,
  parseGref,
  XEN_PAGE_SIZE,
} from '@xenpv/xen-sys';
import { errorCode, errorMessage, XenbusError } from '../errors.js';
import type { Channel, LinkChannel } from '../link/channel.js';
import type { EventRouter } from '../link/event-router.js';
import type { Link } from './link.js';

/** What of a provider went wrong because of what the guest wrote, and not for a lack of something here. */
const GUESTS_FAULT = ['EINVAL', 'EACCES', 'ESRCH', 'ENOENT'];

const HIGHEST = 0xffffffff;

/** What a {@link DeviceLink} is made of. */
export interface DeviceLinkOptions {
  readonly domid: Domid;
  /** The device's, for messages. */
  readonly name: string;
  readonly grants: GrantTable;
  readonly router: EventRouter;
  /** A listener threw. */
  readonly fail: (error: unknown) => void;
}

/**
 * The link of one connection. It begins quiet: no event is told before {@link open}. It ends in three steps, each
 * harmless when repeated: {@link quieten}, then the device lets go, then {@link unwind}.
 */
export class DeviceLink implements Link {
  readonly domid: Domid;
  readonly grants: GrantTable;
  readonly #options: DeviceLinkOptions;
  readonly #end = new AbortController();
  readonly #channels: Channel[] = [];
  readonly #pages = new Map<Buffer, GrantMapping>();
  readonly #buffers = new Set<ArrayBufferLike>();
  #isOpen = false;

  constructor(options: DeviceLinkOptions) {
    this.#options = options;
    this.domid = options.domid;
    this.grants = options.grants;
  }

  get signal(): AbortSignal {
    return this.#end.signal;
  }

  map(refs: number | readonly number[] | Uint32Array, { writable }: { readonly writable: boolean }): Buffer {
    this.#checkOpen('map');
    const list = typeof refs === 'number' ? [refs] : Array.from(refs);
    const what = `${list.length === 1 ? 'the grant' : 'the grants'} ${list.join(', ')} of domain ${this.domid}`;
    const isWrong = list.length === 0 || list.some((ref) => parseGref(ref) === undefined);
    if (isWrong) throw new XenbusError('EINVAL', 'map', `${what}: expected grant references from 0 to ${HIGHEST}`);
    const mapping = this.#orBlameGuest('map', `${what} cannot be mapped`, () =>
      this.grants.map(this.domid, Uint32Array.from(list), { writable }),
    );
    if (!mapping.contiguous) {
      this.grants.unmap(mapping);
      throw new XenbusError('EINVAL', 'map', `${what} do not follow each other here; map them one by one`);
    }
    const bytes = Buffer.from(mapping.buffer, mapping.offsets[0], list.length * XEN_PAGE_SIZE);
    this.#pages.set(bytes, mapping);
    return bytes;
  }

  unmap(bytes: Buffer): void {
    const mapping = this.#pages.get(bytes);
    if (mapping === undefined) return;
    this.#pages.delete(bytes);
    this.grants.unmap(mapping);
  }

  register(buffer: ArrayBufferLike): number {
    this.#checkOpen('register');
    const address = this.grants.register(buffer);
    this.#buffers.add(buffer);
    return address;
  }

  bind(remotePort: EvtchnPort, onEvent: () => void | Promise<void>): LinkChannel {
    this.#checkOpen('bind');
    const what = `port ${remotePort} of domain ${this.domid}`;
    if (parseEvtchnPort(remotePort) === undefined) {
      throw new XenbusError('EINVAL', 'bind', `${what}: expected a number from 0 to ${HIGHEST}`);
    }
    const channel = this.#orBlameGuest('bind', `${what} cannot be bound`, () =>
      this.#options.router.bindInterdomain(this.domid, remotePort, { onEvent, onError: this.#options.fail }),
    );
    this.#channels.push(channel);
    if (this.#isOpen) channel.open();
    return channel;
  }

  /**
   * The device is connected: its listeners are called from now on. The process that an adopted frontend was served by may
   * have been killed between what it did and the event that tells of it: nobody knows, so the frontend gets one.
   */
  open({ adopt }: { readonly adopt: boolean }): void {
    this.#isOpen = true;
    for (const channel of this.#channels) {
      if (adopt) channel.notify();
      channel.open();
    }
  }

  /** No listener is called any more. Resolves when those that are at work have ended. */
  async quieten(): Promise<void> {
    for (const channel of this.#channels) channel.shut();
    this.#end.abort(new XenbusError('ERR_CLOSED', 'disconnect', `${this.#options.name} is disconnected`));
    await Promise.all(this.#channels.map((channel) => channel.quiet()));
  }

  /** Unbinds the ports, then unmaps the pages, the newest first, then unregisters the buffers. Whatever fails, the rest is let go of; then it throws. */
  unwind(): void {
    const { router } = this.#options;
    const steps = [
      ...this.#channels
        .splice(0)
        .map((channel) => () => router.unbind(channel))
        .reverse(),
      ...[...this.#pages.keys()].map((bytes) => () => this.unmap(bytes)).reverse(),
      ...[...this.#buffers].map((buffer) => () => this.grants.unregister(buffer)),
    ];
    this.#buffers.clear();
    const errors = steps.flatMap((step) => errorsOf(step));
    if (errors.length > 0) throw errors[0];
  }

  #checkOpen(op: string): void {
    if (!this.signal.aborted) return;
    throw new XenbusError('ERR_CLOSED', op, `${this.#options.name} is disconnected: its link is not of use any more`);
  }

  #orBlameGuest<T>(op: string, what: string, fn: () => T): T {
    try {
      return fn();
    } catch (cause) {
      if (!GUESTS_FAULT.includes(errorCode(cause))) throw cause;
      throw new XenbusError('EINVAL', op, `${what}: ${errorMessage(cause)}`, { cause });
    }
  }
}

function errorsOf(step: () => void): unknown[] {
  try {
    step();
    return [];
  } catch (error) {
    return [error];
  }
}
