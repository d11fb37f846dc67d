import { XEN_PAGE_SIZE } from '@xenpv/xen-sys';

const PAGE_SHIFT = Math.log2(XEN_PAGE_SIZE);
const NONE = -1;

/**
 * Hands out runs of pages of one memory: a buddy allocator over plain arrays. A run is a power of two pages long, so
 * that one request's data is always contiguous. A run that is given back is kept whole for its guest's next request of
 * that size, and joined with its neighbours only when a larger run is needed: both then cost a few array accesses.
 *
 * No guest gets a page with another guest's bytes in it: a page that changes its guest is cleared. Where every guest has
 * what it needs that does not happen.
 */
export class PagePool {
  /** Bytes of memory managed. */
  readonly bytes: number;
  readonly #pages: number;
  readonly #orders: number;
  /** Heads of the free lists, by order. */
  readonly #heads: Int32Array;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** By guest: heads of the lists of runs that were given back and not joined, by order; `#next` links them. */
  readonly #spares = new Map<number, Int32Array>();
  /** Those of one guest, which was the last one. */
  #spare: Int32Array | undefined;
  #spareGuest = NONE;
  /** Of each page: the guest that had it last, or -1. */
  readonly #guest: Int32Array;
  readonly #clear: (offset: number, bytes: number) => void;
  /** For the first page of a free run its order, otherwise -1. */
  readonly #freeOrder: Int8Array;
  /** For the first page of a run handed out its order. */
  readonly #usedOrder: Int8Array;
  #freePages: number;

  /** `bytes` must be a power of two and at least one page. `clear` zeroes part of the memory. */
  constructor(bytes: number, clear: (offset: number, bytes: number) => void) {
    this.#clear = clear;
    this.#pages = bytes / XEN_PAGE_SIZE;
    this.#orders = Math.log2(this.#pages) + 1;
    if (!Number.isInteger(this.#orders)) throw new RangeError(`pool size ${bytes} is not a power of two pages`);
    this.bytes = bytes;
    this.#heads = new Int32Array(this.#orders).fill(NONE);
    this.#guest = new Int32Array(this.#pages).fill(NONE);
    this.#next = new Int32Array(this.#pages);
    this.#previous = new Int32Array(this.#pages);
    this.#freeOrder = new Int8Array(this.#pages).fill(NONE);
    this.#usedOrder = new Int8Array(this.#pages).fill(NONE);
    this.#freePages = this.#pages;
    this.#link(0, this.#orders - 1);
  }

  get freeBytes(): number {
    return this.#freePages * XEN_PAGE_SIZE;
  }

  /** Byte offset of a run of at least `bytes`, in which there is nothing of other guests; or -1. */
  take(bytes: number, guest: number): number {
    const order = orderOf(bytes);
    if (order >= this.#orders) return NONE;
    const spare = this.#spareOf(guest);
    let page = spare[order];
    if (page !== NONE) spare[order] = this.#next[page];
    else {
      page = this.#split(order);
      if (page === NONE && this.#joinSpare()) page = this.#split(order);
      if (page === NONE) return NONE;
      this.#claim(page, 1 << order, guest);
    }
    this.#usedOrder[page] = order;
    this.#freePages -= 1 << order;
    return page * XEN_PAGE_SIZE;
  }

  /** Gives back the run that `take` returned; returns its bytes. */
  give(offset: number): number {
    const page = offset >>> PAGE_SHIFT;
    const order = this.#usedOrder[page];
    if (order === NONE || order === undefined) throw new RangeError(`no run was taken at offset ${offset}`);
    this.#usedOrder[page] = NONE;
    this.#freePages += 1 << order;
    const spare = this.#spareOf(this.#guest[page]);
    this.#next[page] = spare[order];
    spare[order] = page;
    return XEN_PAGE_SIZE << order;
  }

  /** A guest is gone: nothing is kept for it. */
  forget(guest: number): void {
    const spare = this.#spares.get(guest);
    if (spare === undefined) return;
    this.#joinAll(spare);
    this.#spares.delete(guest);
    if (this.#spareGuest === guest) this.#spareGuest = NONE;
  }

  #spareOf(guest: number): Int32Array {
    if (guest === this.#spareGuest && this.#spare !== undefined) return this.#spare;
    let spare = this.#spares.get(guest);
    if (spare === undefined) this.#spares.set(guest, (spare = new Int32Array(this.#orders).fill(NONE)));
    this.#spare = spare;
    this.#spareGuest = guest;
    return spare;
  }

  /** Pages are a guest's from now on. */
  #claim(first: number, pages: number, guest: number): void {
    const guests = this.#guest;
    let dirty = false;
    for (let page = first; page < first + pages; page++) {
      const before = guests[page];
      if (before === guest) continue;
      dirty ||= before !== NONE;
      guests[page] = guest;
    }
    if (dirty) this.#clear(first * XEN_PAGE_SIZE, pages * XEN_PAGE_SIZE);
  }

  /** The first page of a free run of that order, or -1. */
  #split(order: number): number {
    let from = order;
    while (from < this.#orders && this.#heads[from] === NONE) from++;
    if (from === this.#orders) return NONE;
    const page = this.#heads[from];
    this.#unlink(page, from);
    while (from > order) this.#link(page + (1 << --from), from);
    return page;
  }

  /** Joins all spare runs with their neighbours; false when there were none. */
  #joinSpare(): boolean {
    let any = false;
    for (const spare of this.#spares.values()) any = this.#joinAll(spare) || any;
    return any;
  }

  #joinAll(spare: Int32Array): boolean {
    let any = false;
    for (let order = 0; order < this.#orders; order++) {
      for (let page = spare[order], next: number; page !== NONE; page = next) {
        next = this.#next[page];
        this.#join(page, order);
        any = true;
      }
      spare[order] = NONE;
    }
    return any;
  }

  #join(first: number, size: number): void {
    let page = first;
    let order = size;
    while (order < this.#orders - 1) {
      const buddy = page ^ (1 << order);
      if (this.#freeOrder[buddy] !== order) break;
      this.#unlink(buddy, order);
      page &= ~(1 << order);
      order++;
    }
    this.#link(page, order);
  }

  #link(page: number, order: number): void {
    const head = this.#heads[order];
    this.#next[page] = head;
    this.#previous[page] = NONE;
    if (head !== NONE) this.#previous[head] = page;
    this.#heads[order] = page;
    this.#freeOrder[page] = order;
  }

  #unlink(page: number, order: number): void {
    const next = this.#next[page];
    const previous = this.#previous[page];
    if (previous === NONE) this.#heads[order] = next;
    else this.#next[previous] = next;
    if (next !== NONE) this.#previous[next] = previous;
    this.#freeOrder[page] = NONE;
  }
}

/** Bytes of the run that `take` hands out for `bytes`. */
export function runBytes(bytes: number): number {
  return XEN_PAGE_SIZE << orderOf(bytes);
}

/** The order of the smallest run that holds `bytes`. */
function orderOf(bytes: number): number {
  return bytes <= XEN_PAGE_SIZE ? 0 : 32 - Math.clz32(((bytes + XEN_PAGE_SIZE - 1) >>> PAGE_SHIFT) - 1);
}
