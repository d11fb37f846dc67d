import type { ForeignMapping, ForeignMemory } from '../foreign-memory.js';
import type { GrantAllocator, GrantedPages } from '../grant-allocator.js';
import type { Faults } from './faults.js';

/** A grant allocator that may be out of pages. */
export class FaultyGrantAllocator implements GrantAllocator {
  readonly #inner: GrantAllocator;
  readonly #faults: Faults;

  constructor(inner: GrantAllocator, faults: Faults) {
    this.#inner = inner;
    this.#faults = faults;
  }

  allocate(domid: number, count: number, options: { writable: boolean }): GrantedPages {
    this.#faults.check('allocate', 'gntalloc.allocate', { domid, count });
    return this.#inner.allocate(domid, count, options);
  }

  release(pages: GrantedPages): void {
    this.#inner.release(pages);
  }

  close(): void {
    this.#inner.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

/** Foreign memory that may refuse to map. */
export class FaultyForeignMemory implements ForeignMemory {
  readonly #inner: ForeignMemory;
  readonly #faults: Faults;

  constructor(inner: ForeignMemory, faults: Faults) {
    this.#inner = inner;
    this.#faults = faults;
  }

  map(domid: number, frames: ArrayLike<number>, options: { writable: boolean }): ForeignMapping {
    this.#faults.check('mapForeign', 'foreignmem.map', { domid, frames });
    return this.#inner.map(domid, frames, options);
  }

  unmap(mapping: ForeignMapping): void {
    this.#inner.unmap(mapping);
  }

  close(): void {
    this.#inner.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}
