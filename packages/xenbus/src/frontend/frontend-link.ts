import { type Domid, type GrantAllocator, type Gref, XEN_PAGE_SIZE, type XenProvider } from '@xenpv/xen-sys';
import type { Channel, LinkChannel } from '../link/channel.js';
import { EventRouter } from '../link/event-router.js';

/** Pages that a frontend lends its backend. */
export interface LentPages {
  /** What the backend maps them by, one of each page: goes into a key each. */
  readonly refs: readonly [Gref, ...Gref[]];
  /** Their bytes, zeroed at first: a RingMemory of @xenpv/ring. The backend may write there at any time. */
  readonly bytes: Buffer;
}

/** What a frontend shares with its backend. All of it is taken back at the end of the connection. */
export class FrontendLink implements Disposable {
  /** The backend's domain. */
  readonly domid: Domid;
  readonly #allocator: GrantAllocator;
  readonly #router: EventRouter;
  readonly #channels: Channel[] = [];
  readonly #fail: (error: unknown) => void;

  /** `fail` is called with what a listener throws. Errors: those of the provider; nothing is left open then. */
  constructor(
    provider: Pick<XenProvider, 'openEventChannels' | 'openGrantAllocator'>,
    domid: Domid,
    fail: (error: unknown) => void,
  ) {
    this.domid = domid;
    this.#fail = fail;
    this.#allocator = provider.openGrantAllocator();
    try {
      this.#router = new EventRouter(provider.openEventChannels());
    } catch (error) {
      this.#allocator.close();
      throw error;
    }
  }

  /**
   * Pages that follow each other, granted to the backend's domain; one if not told otherwise. With `writable` false it
   * may only read them. Errors: ENOSPC, ENOMEM.
   */
  grant(pages = 1, { writable = true }: { readonly writable?: boolean | undefined } = {}): LentPages {
    const { refs, buffer, offsets } = this.#allocator.allocate(this.domid, pages, { writable });
    return {
      refs: Array.from(refs) as [Gref, ...Gref[]],
      bytes: Buffer.from(buffer, offsets[0], pages * XEN_PAGE_SIZE),
    };
  }

  /**
   * Makes a port that the backend may bind. `onEvent` is called for each event, from when both ends are Connected; while
   * a promise that it gives is pending it is not called again. If it throws or rejects, the connection is closed.
   */
  bind(onEvent: () => void | Promise<void>): LinkChannel {
    const channel = this.#router.bindUnbound(this.domid, { onEvent, onError: this.#fail });
    this.#channels.push(channel);
    return channel;
  }

  /** Both ends are Connected. */
  open(): void {
    for (const channel of this.#channels) channel.open();
  }

  /** Ends the ports and the grants. Harmless when repeated. */
  [Symbol.dispose](): void {
    this.#router[Symbol.dispose]();
    this.#allocator.close();
  }
}
