import { XenSysError } from '@xenpv/xen-sys';
import { PageViews } from '../machine/page-views.js';

const TWO_32 = 2 ** 32;
/** Addresses are exact doubles below 2^53, so that is how far their upper halves go. */
const MAX_SLOTS = 2 ** 21;

/**
 * The local sides of grant copies. An address is made up: its upper 32 bits name a slot, its lower 32 bits are the
 * offset there; a buffer has a slot for every 4 GiB begun. Slot 0 stays empty, so that address 0 is nobody's.
 */
export class LocalBuffers {
  readonly #slots: (PageViews | undefined)[] = [undefined];
  readonly #firstSlots = new Map<ArrayBufferLike, number>();

  /** The address of the first byte of `buffer`. The same again for a buffer known already. Error: ENOSPC. */
  add(buffer: ArrayBufferLike): number {
    const known = this.#firstSlots.get(buffer);
    if (known !== undefined) return known * TWO_32;
    const first = this.#findSlots(slotsOf(buffer));
    for (let i = 0; i < slotsOf(buffer); i++) {
      const offset = i * TWO_32;
      this.#slots[first + i] = new PageViews(buffer, offset, Math.min(buffer.byteLength - offset, TWO_32));
    }
    this.#firstSlots.set(buffer, first);
    return first * TWO_32;
  }

  remove(buffer: ArrayBufferLike): void {
    const first = this.#firstSlots.get(buffer);
    if (first === undefined) return;
    this.#firstSlots.delete(buffer);
    for (let i = 0; i < slotsOf(buffer); i++) this.#slots[first + i] = undefined;
  }

  /** The buffer part whose addresses have the upper half `high`. */
  at(high: number): PageViews | undefined {
    return this.#slots[high];
  }

  clear(): void {
    this.#slots.length = 1;
    this.#firstSlots.clear();
  }

  #findSlots(count: number): number {
    let first = 1;
    for (let slot = 1; slot < this.#slots.length && slot - first < count; slot++) {
      if (this.#slots[slot] !== undefined) first = slot + 1;
    }
    if (first + count > MAX_SLOTS)
      throw new XenSysError('ENOSPC', 'gnttab.register', 'too many buffers are registered');
    return first;
  }
}

function slotsOf(buffer: ArrayBufferLike): number {
  return Math.max(1, Math.ceil(buffer.byteLength / TWO_32));
}
