import { SECTOR_SIZE, SEGMENT_WORDS, segmentFirst, segmentGref, segmentLast } from '@xenpv/blkif';
import { type BlockQueue, IOV_WORDS } from '@xenpv/blockdev';
import type { GrantMapping, GrantTable } from '@xenpv/xen-sys';
import type { MappedPage } from './mapped-page.js';
import { PersistentGrants } from './persistent-grants.js';
import { RegionCache } from './region-cache.js';
import type { SegmentList } from './segment-list.js';

interface MappedRequest {
  readonly pages: readonly MappedPage[];
  /** Undoes the mapping, or ends the use of persistent pages. */
  readonly release: () => void;
}

export interface PageMapperOptions {
  readonly grants: GrantTable;
  /** Whether several pages can be mapped in one call. */
  readonly mapMultiple: boolean;
  readonly domid: number;
  readonly queue: BlockQueue;
  /** Pages that may stay mapped; 0 for none. */
  readonly persistentPages: number;
}

/**
 * Gives the storage engine the guest's own pages instead of copies: each request's pages are mapped for its time, or,
 * when the frontend offered it, for as long as it uses them.
 */
export class PageMapper {
  readonly #grants: GrantTable;
  readonly #mapMultiple: boolean;
  readonly #domid: number;
  readonly #regions: RegionCache;
  readonly #persistent: PersistentGrants | undefined;
  /** By row of the request table. */
  readonly #requests: (MappedRequest | undefined)[] = [];

  constructor({ grants, mapMultiple, domid, queue, persistentPages }: PageMapperOptions) {
    this.#grants = grants;
    this.#mapMultiple = mapMultiple;
    this.#domid = domid;
    this.#regions = new RegionCache(queue);
    if (persistentPages > 0) this.#persistent = new PersistentGrants(grants, domid, this.#regions, persistentPages);
  }

  /** Pages that stay mapped between requests. */
  get persistentPages(): number {
    return this.#persistent?.size ?? 0;
  }

  /**
   * Maps the pages of a request's segments; `writable` where the storage writes to them. False when one of them cannot
   * be mapped: then none is.
   */
  map(row: number, { words, at, count }: SegmentList, access: { readonly writable: boolean }): boolean {
    const refs = new Uint32Array(count);
    for (let i = 0; i < count; i++) refs[i] = segmentGref(words, at + i * SEGMENT_WORDS);
    try {
      this.#requests[row] = this.#persistent?.use(refs) ?? this.#mapOnce(refs, access);
      return true;
    } catch {
      return false;
    }
  }

  /** Appends a mapped request's pieces to a scatter list; pieces that continue each other become one. */
  addIov(row: number, { words, at }: SegmentList, iov: Float64Array, count: number): number {
    const { pages } = this.#requests[row]!;
    for (const [i, { region, offset }] of pages.entries()) {
      const first = segmentFirst(words, at + i * SEGMENT_WORDS);
      const start = offset + first * SECTOR_SIZE;
      const length = (segmentLast(words, at + i * SEGMENT_WORDS) - first + 1) * SECTOR_SIZE;
      const last = (count - 1) * IOV_WORDS;
      if (i > 0 && iov[last] === region && iov[last + 1] + iov[last + 2] === start) iov[last + 2] += length;
      else iov.set([region, start, length], count++ * IOV_WORDS);
    }
    return count;
  }

  /** Unmaps a request's pages. To be done before it is answered: frontends check that. */
  unmap(row: number): void {
    this.#requests[row]?.release();
    this.#requests[row] = undefined;
  }

  /** Unmaps the persistent pages. No request may be in flight. */
  close(): void {
    this.#persistent?.close();
  }

  #mapOnce(refs: Uint32Array, access: { readonly writable: boolean }): MappedRequest {
    const mappings: GrantMapping[] = [];
    const release = () => {
      for (const mapping of mappings) this.#unmap(mapping);
    };
    try {
      const calls = this.#mapMultiple ? [refs] : Array.from(refs, (ref) => Uint32Array.of(ref));
      const pages = calls.flatMap((some) => this.#mapPages(some, access, mappings));
      return { pages, release };
    } catch (error) {
      release();
      throw error;
    }
  }

  #mapPages(refs: Uint32Array, access: { readonly writable: boolean }, mappings: GrantMapping[]): MappedPage[] {
    const mapping = this.#grants.map(this.#domid, refs, access);
    mappings.push(mapping);
    const region = this.#regions.take(mapping.buffer);
    return Array.from(mapping.offsets, (offset) => ({ region, offset }));
  }

  #unmap(mapping: GrantMapping): void {
    this.#regions.give(mapping.buffer);
    this.#grants.unmap(mapping);
  }
}
