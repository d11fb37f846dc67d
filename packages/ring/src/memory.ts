import { RING_HEADER_BYTES } from './layout.js';

/** Where a ring lies: a Uint8Array fits. */
export interface RingMemory {
  /** The shared memory, which may be larger than the ring: that of a grant mapping, or a SharedArrayBuffer. */
  readonly buffer: ArrayBufferLike;
  /** Where in `buffer` the ring begins, in bytes: a multiple of 4. */
  readonly byteOffset: number;
  /** Bytes from there on that are the ring's; for a ring of several pages, all of them. */
  readonly byteLength: number;
}

/**
 * How many slots of `slotBytes` fit a ring of `byteLength` bytes: the largest power of two, as io/ring.h's
 * `__RING_SIZE` has it. 0 when not even one fits.
 */
export function ringSlots(byteLength: number, slotBytes: number): number {
  const fit = Math.floor((byteLength - RING_HEADER_BYTES) / slotBytes);
  return fit < 1 ? 0 : 2 ** Math.floor(Math.log2(fit));
}
