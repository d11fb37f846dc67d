import { MAX_SEGMENTS } from '@xenpv/blkif';
import { allocateMemory } from '@xenpv/blockdev';
import { type GrantTable, XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import { PagePool } from './page-pool.js';

const ZEROES = Buffer.alloc(XEN_PAGE_SIZE);

/** A data plane's own memory, in which copied requests have their data and indirect requests their segments. */
export class DataMemory {
  readonly buffer: ArrayBufferLike;
  readonly words: Int32Array;
  /** The address of its first byte for grant copies. */
  readonly address: number;
  readonly pool: PagePool;

  /** `bytes`: a power of two. */
  constructor(grants: GrantTable, bytes: number) {
    this.buffer = allocateMemory(bytes);
    this.words = new Int32Array(this.buffer);
    const memory = Buffer.from(this.buffer);
    // With a source it is a memcpy: `fill(0)` of shared memory is atomic byte by byte, and much slower.
    this.pool = new PagePool(bytes, (offset, length) => memory.fill(ZEROES, offset, offset + length));
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
