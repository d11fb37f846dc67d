import { type GrantMapping, pageView, XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import type { MachineDomain } from '../machine/machine.js';

/** Pages of another domain in use here, which is only its RAM and where in it they are. */
export class EmulatedMapping implements GrantMapping {
  readonly granter: MachineDomain;
  readonly refs: Uint32Array;
  readonly writable: boolean;
  readonly offsets: Float64Array;
  readonly contiguous: boolean;
  /** Whether it was unmapped. */
  protected unmapped = false;

  constructor(
    granter: MachineDomain,
    refs: Uint32Array,
    offsets: Float64Array,
    options: { readonly writable: boolean },
  ) {
    this.granter = granter;
    this.refs = refs.slice();
    this.writable = options.writable;
    this.offsets = offsets;
    this.contiguous = areContiguous(offsets);
  }

  get domid(): number {
    return this.granter.memory.domid;
  }

  get buffer(): ArrayBufferLike {
    return this.granter.memory.ram;
  }

  page(index: number): Uint8Array {
    return pageView(this, index, this.unmapped);
  }

  /** It was unmapped. */
  end(): void {
    this.unmapped = true;
  }
}

/** Where `frames` begin in their domain's RAM, in bytes. */
export function frameOffsets(frames: ArrayLike<number>): Float64Array {
  return Float64Array.from(frames, (frame) => frame * XEN_PAGE_SIZE);
}

/** Whether pages at `offsets` follow each other. */
export function areContiguous(offsets: Float64Array): boolean {
  return offsets.every((offset, index) => offset === offsets[0] + index * XEN_PAGE_SIZE);
}
