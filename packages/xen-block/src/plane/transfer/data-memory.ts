import { allocateMemory } from '@xenpv/blockdev';
import type { GrantTable } from '@xenpv/xen-sys';
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
}
