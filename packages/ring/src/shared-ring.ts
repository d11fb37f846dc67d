import { RingError } from './errors.js';
import { type RingMemory, ringSlots } from './memory.js';

/** The words of a shared ring and its dimensions, checked once. */
export interface SharedRing {
  readonly words: Int32Array;
  readonly slots: number;
  readonly slotWords: number;
}

/** Lays a ring of `slotBytes` slots over `memory`. RingError ERR_RING_MEMORY where that cannot be. */
export function overlay(memory: RingMemory, slotBytes: number): SharedRing {
  if (!Number.isInteger(slotBytes) || slotBytes < 4 || slotBytes % 4 !== 0) {
    throw new RingError(
      'ERR_RING_MEMORY',
      'create',
      `a slot of ${slotBytes} bytes is not a whole number of 32-bit words`,
    );
  }
  if (memory.byteOffset % 4 !== 0) {
    throw new RingError('ERR_RING_MEMORY', 'create', `a ring at byte ${memory.byteOffset} is not aligned to 4 bytes`);
  }
  const slots = ringSlots(memory.byteLength, slotBytes);
  if (slots === 0) {
    throw new RingError('ERR_RING_MEMORY', 'create', `${memory.byteLength} bytes hold no slot of ${slotBytes} bytes`);
  }
  const words = new Int32Array(memory.buffer, memory.byteOffset, memory.byteLength >> 2);
  return { words, slots, slotWords: slotBytes / 4 };
}
