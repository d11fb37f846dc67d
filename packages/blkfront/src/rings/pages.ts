import { type GrantAllocator, type GrantedPages, XEN_PAGE_SIZE } from '@xenpv/xen-sys';

/**
 * The data pages of a queue: granted once, used again and again, and allocated only when they are first needed. A
 * page is known by its index; taking and giving back one costs an array access.
 */
export class FrontendPages {
  /** The most pages there will be. */
  readonly limit: number;
  /** Of each page: its grant reference, its bytes, and the same as words. */
  readonly refs: Int32Array;
  readonly bytes: Uint8Array[] = [];
  readonly words: Int32Array[] = [];
  readonly #allocator: GrantAllocator;
  readonly #domid: number;
  readonly #chunk: number;
  readonly #granted: GrantedPages[] = [];
  readonly #free: Int32Array;
  #freeCount = 0;

  /** Pages for the backend in `domid`; `chunk` of them are allocated at a time. */
  constructor(allocator: GrantAllocator, domid: number, limit: number, chunk: number) {
    this.#allocator = allocator;
    this.#domid = domid;
    this.limit = limit;
    this.#chunk = chunk;
    this.refs = new Int32Array(limit);
    this.#free = new Int32Array(limit);
  }

  /** Whether `count` pages can be taken now, if need be newly allocated ones. */
  reserve(count: number): boolean {
    while (this.#freeCount < count) {
      if (!this.#grow()) return false;
    }
    return true;
  }

  /** The index of a page that {@link reserve} promised. */
  take(): number {
    return this.#free[--this.#freeCount];
  }

  give(page: number): void {
    this.#free[this.#freeCount++] = page;
  }

  /** Ends all grants. */
  release(): void {
    for (const granted of this.#granted.splice(0)) this.#allocator.release(granted);
    this.#freeCount = 0;
  }

  #grow(): boolean {
    const have = this.bytes.length;
    const count = Math.min(this.#chunk, this.limit - have);
    if (count <= 0) return false;
    const granted = this.#allocate(count);
    if (granted === undefined) return false;
    this.#granted.push(granted);
    // Last to first, so that they are taken in order, next to each other in memory.
    for (let i = count - 1; i >= 0; i--) {
      this.refs[have + i] = granted.refs[i];
      this.bytes[have + i] = new Uint8Array(granted.buffer, granted.offsets[i], XEN_PAGE_SIZE);
      this.words[have + i] = new Int32Array(granted.buffer, granted.offsets[i], XEN_PAGE_SIZE / 4);
      this.give(have + i);
    }
    return true;
  }

  /** With some pages already there, having no more is not an error: requests wait for each other. */
  #allocate(count: number): GrantedPages | undefined {
    try {
      return this.#allocator.allocate(this.#domid, count, { writable: true });
    } catch (error) {
      if (this.#granted.length === 0) throw error;
      return undefined;
    }
  }
}
