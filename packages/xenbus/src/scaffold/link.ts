import type { Domid, EvtchnPort, GrantTable, Gref } from '@xenpv/xen-sys';
import type { LinkChannel } from '../link/channel.js';

/**
 * What a device shares with its frontend while they are connected. All of it is taken back by itself at the end of the
 * connection: ports first, then pages, the newest first, then buffers, also when `connect` fails half-way.
 */
export interface Link {
  /** The frontend's domain. */
  readonly domid: Domid;
  /** Aborted when the connection ends, before `disconnect` is called: for what a device waits for meanwhile. */
  readonly signal: AbortSignal;
  /** For grant copies: see {@link register}. What is mapped or registered through it directly is the device's to undo. */
  readonly grants: GrantTable;
  /**
   * Maps pages of the frontend and gives their bytes, which are the guest's memory: it may write there at any time, so
   * read what matters once, then check the copy. A RingMemory of @xenpv/ring is what this is too. Several pages follow
   * each other. A grant for reading alone maps only with `writable` false. Errors: EINVAL for what the guest did not
   * grant so, which becomes the device's error node.
   */
  map(refs: Gref | readonly Gref[] | Uint32Array, options: { readonly writable: boolean }): Buffer;
  /** Unmaps what {@link map} gave, before the end of the connection. Harmless when repeated. */
  unmap(bytes: Buffer): void;
  /**
   * Makes a buffer of the device's a local side of copies by {@link grants}, until the connection ends. Returns the address
   * of its first byte, the base of a GrantCopyBatch of @xenpv/xen-sys. A buffer is of one connection: another one's end
   * would take it away from this one.
   */
  register(buffer: ArrayBufferLike): number;
  /**
   * Binds to a port that the frontend left for us. `onEvent` is called for each event, from when `connect` has returned;
   * at least once, since events may have been sent before. While a promise that it gives is pending it is not called
   * again. Where a frontend is adopted it is sent one event too: an earlier process may have been killed before it sent
   * its own. If it throws or rejects, its device fails: error node and Closing. Errors of this call: EINVAL for a port that
   * is not ours to bind.
   */
  bind(remotePort: EvtchnPort, onEvent: () => void | Promise<void>): LinkChannel;
}
