import { SECTOR_SIZE, SEGMENT_WORDS, segmentFirst, segmentGref, segmentLast } from '@xenpv/blkif';
import { type BlockQueue, IOV_WORDS } from '@xenpv/blockdev';
import type { GrantMapping, GrantTable } from '@xenpv/xen-sys';
import { PersistentGrants } from './persistent-grants.js';
import { RegionCache } from './region-cache.js';

/** A page of a request: where it is for the engine. */
export interface MappedPage {
  readonly region: number;
  /** Bytes into the region. */
  readonly offset: number;
}

interface MappedRequest {
  readonly pages: readonly MappedPage[];
  /** Undoes the mapping, or ends the use of persistent pages. */
  readonly release: () => void;
}

/**
 * Gives the storage engine the guest's own pages instead of copies: each request's pages are mapped for its time, or,
 * when the frontend offered it, for as long as it uses them.
 */
export class PageMapper {
  readonly #grants: GrantTable;
  readonly #multiple: boolean;
  readonly #domid: number;
  readonly #regions: RegionCache;
  readonly #persistent: PersistentGrants | undefined;
  /** By row of the request table. */
  readonly #requests: (MappedRequest | undefined)[] = [];

  /** `multiple`: whether several pages can be mapped in one call. `maxPersistent`: pages that stay mapped, 0 for none. */
  constructor(grants: GrantTable, multiple: boolean, domid: number, queue: BlockQueue, maxPersistent: number) {
    this.#grants = grants;
    this.#multiple = multiple;
    this.#domid = domid;
    this.#regions = new RegionCache(queue);
    if (maxPersistent > 0) this.#persistent = new PersistentGrants(grants, domid, this.#regions, maxPersistent);
  }

  /** Pages that stay mapped between requests. */
  get persistentPages(): number {
    return this.#persistent?.size ?? 0;
  }

  /** Maps the pages of `count` segments. False when one of them cannot be: then none is. */
  map(row: number, words: Int32Array, at: number, count: number, writable: boolean): boolean {
    const refs = new Uint32Array(count);
    for (let i = 0; i < count; i++) refs[i] = segmentGref(words, at + i * SEGMENT_WORDS);
    try {
      this.#requests[row] = this.#persistent?.use(refs) ?? this.#mapOnce(refs, writable);
      return true;
    } catch {
      return false;
    }
  }

  /** Appends a mapped request's pieces to a scatter list; pieces that continue each other become one. */
  addIov(row: number, words: Int32Array, at: number, iov: Float64Array, count: number): number {
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

  /** Unmaps what was mapped for a request. To be done before it is answered: frontends check that. */
  unmap(row: number): void {
    this.#requests[row]?.release();
    this.#requests[row] = undefined;
  }

  /** Unmaps what is persistent. No request may be under way. */
  close(): void {
    this.#persistent?.close();
  }

  #mapOnce(refs: Uint32Array, writable: boolean): MappedRequest {
    const mappings: GrantMapping[] = [];
    const release = () => {
      for (const mapping of mappings) this.#unmap(mapping);
    };
    try {
      const calls = this.#multiple ? [refs] : Array.from(refs, (ref) => Uint32Array.of(ref));
      const pages = calls.flatMap((some) => this.#mapPages(some, writable, mappings));
      return { pages, release };
    } catch (error) {
      release();
      throw error;
    }
  }

  #mapPages(refs: Uint32Array, writable: boolean, mappings: GrantMapping[]): MappedPage[] {
    const mapping = this.#grants.map(this.#domid, refs, { writable });
    mappings.push(mapping);
    const region = this.#regions.take(mapping.buffer);
    return Array.from(mapping.offsets, (offset) => ({ region, offset }));
  }

  #unmap(mapping: GrantMapping): void {
    this.#regions.give(mapping.buffer);
    this.#grants.unmap(mapping);
  }
}
