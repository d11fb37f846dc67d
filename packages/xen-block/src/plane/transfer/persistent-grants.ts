import type { GrantMapping, GrantTable } from '@xenpv/xen-sys';
import type { MappedPage } from './mapped-page.js';
import type { RegionCache } from './region-cache.js';

interface PersistentPage extends MappedPage {
  readonly ref: number;
  readonly mapping: GrantMapping;
  users: number;
}

/**
 * Pages that a frontend promised to grant for as long as it is connected (feature-persistent): mapped once, always
 * writable, the least recently used first to go. A page over the limit is mapped for its request only.
 */
export class PersistentGrants {
  readonly #grants: GrantTable;
  readonly #domid: number;
  readonly #regions: RegionCache;
  readonly #max: number;
  /** In the order of their last use. */
  readonly #pages = new Map<number, PersistentPage>();

  constructor(grants: GrantTable, domid: number, regions: RegionCache, max: number) {
    this.#grants = grants;
    this.#domid = domid;
    this.#regions = regions;
    this.#max = max;
  }

  get size(): number {
    return this.#pages.size;
  }

  /** The pages of one request, held until `release`. Throws when one cannot be mapped: then none is held. */
  use(refs: Uint32Array): { pages: readonly MappedPage[]; release: () => void } {
    const pages: PersistentPage[] = [];
    const release = () => {
      for (const page of pages) this.#give(page);
    };
    try {
      for (const ref of refs) pages.push(this.#take(ref));
    } catch (error) {
      release();
      throw error;
    }
    return { pages, release };
  }

  /** Unmaps all. None may be in use. */
  close(): void {
    for (const page of this.#pages.values()) this.#unmap(page);
    this.#pages.clear();
  }

  #take(ref: number): PersistentPage {
    let page = this.#pages.get(ref);
    if (page) this.#pages.delete(ref);
    else page = this.#map(ref);
    page.users++;
    if (page.users > 1 || this.#pages.size < this.#max || this.#evict()) this.#pages.set(ref, page);
    return page;
  }

  #map(ref: number): PersistentPage {
    const mapping = this.#grants.map(this.#domid, Uint32Array.of(ref), { writable: true });
    return { ref, mapping, region: this.#regions.take(mapping.buffer), offset: mapping.offsets[0], users: 0 };
  }

  /** Makes room by unmapping the page that was unused for the longest time. False when all are in use. */
  #evict(): boolean {
    for (const page of this.#pages.values()) {
      if (page.users > 0) continue;
      this.#pages.delete(page.ref);
      this.#unmap(page);
      return true;
    }
    return false;
  }

  /** A page that found no room among the persistent ones is unmapped as soon as it is unused. */
  #give(page: PersistentPage): void {
    page.users--;
    if (page.users === 0 && this.#pages.get(page.ref) !== page) this.#unmap(page);
  }

  #unmap(page: PersistentPage): void {
    this.#regions.give(page.mapping.buffer);
    this.#grants.unmap(page.mapping);
  }
}
