import { RING_HEADER_BYTES } from './layout.js';

/** Where a ring lies: a Uint8Array fits. `byteOffset` must be a multiple of 4. */
export interface RingMemory {
  readonly buffer: ArrayBufferLike;
  readonly byteOffset: number;
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
