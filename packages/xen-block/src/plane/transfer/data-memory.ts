import { MAX_SEGMENTS } from '@xenpv/blkif';
import { allocateMemory } from '@xenpv/blockdev';
import { type GrantTable, XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import { PagePool } from './page-pool.js';

/** A data plane's own memory, in which copied requests have their data and indirect requests their segments. */
export class DataMemory {
  readonly buffer: ArrayBufferLike;
  readonly words: Int32Array;
  /** The address of its first byte for grant copies. */
  readonly address: number;
  readonly pool: PagePool;

  /** `bytes`: a power of two. */
  constructor(grants: GrantTable, bytes: number) {
    this.pool = new PagePool(bytes);
    this.buffer = allocateMemory(bytes);
    this.words = new Int32Array(this.buffer);
    this.address = grants.register(this.buffer);
  }

  /** Whether a request of so many segments finds memory for its data and for its segments when all of it is free. */
  hasRoomFor(segments: number): boolean {
    return leastMemory(segments) <= this.pool.bytes;
  }
}

/** Bytes with which an indirect request of so many segments can be served. */
export function leastMemory(segments: number): number {
  return 2 * Math.max(segments, MAX_SEGMENTS) * XEN_PAGE_SIZE;
}
