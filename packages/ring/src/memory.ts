/** Where a ring lies: a Uint8Array fits. `byteOffset` must be a multiple of 4. */
export interface RingMemory {
  readonly buffer: ArrayBufferLike;
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** Bytes before the first slot of a shared ring: four indices, 16 bytes for the drivers' private use, padding. */
export const RING_HEADER_BYTES = 64;

/** Word offsets of the four shared indices (`struct sring` of io/ring.h). */
export const SHARED = { reqProd: 0, reqEvent: 1, rspProd: 2, rspEvent: 3 } as const;

/** The word offset of the first slot. */
export const SLOTS_WORD = RING_HEADER_BYTES / 4;

/**
 * How many slots of `slotBytes` fit a ring of `byteLength` bytes: the largest power of two, as io/ring.h's
 * `__RING_SIZE` has it. 0 when not even one fits.
 */
export function ringSlots(byteLength: number, slotBytes: number): number {
  const fit = Math.floor((byteLength - RING_HEADER_BYTES) / slotBytes);
  return fit < 1 ? 0 : 2 ** Math.floor(Math.log2(fit));
}
