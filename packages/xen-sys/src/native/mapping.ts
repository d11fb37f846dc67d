import { type GrantMapping, pageView } from '../grant-table.js';
import { pageOffsets } from './pages.js';

/** Pages that the kernel has mapped, in the order of their references. Unmapping detaches their buffer. */
export class NativeMapping implements GrantMapping {
  readonly domid: number;
  readonly refs: Uint32Array;
  readonly writable: boolean;
  readonly buffer: ArrayBufferLike;
  readonly offsets: Float64Array;
  readonly contiguous = true;
  /** Set by {@link NativeGrantTable.unmap}. */
  unmapped = false;

  constructor(domid: number, refs: Uint32Array, writable: boolean, buffer: ArrayBufferLike) {
    this.domid = domid;
    this.refs = Uint32Array.from(refs);
    this.writable = writable;
    this.buffer = buffer;
    this.offsets = pageOffsets(refs.length);
  }

  page(index: number): Uint8Array {
    return pageView(this, index, this.unmapped);
  }
}
