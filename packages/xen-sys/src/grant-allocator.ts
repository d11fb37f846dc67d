import type { Domid } from './numbers.js';
/** Pages of this domain that another domain may map, as /dev/xen/gntalloc gives them. */
export interface GrantedPages {
  readonly domid: Domid;
  readonly refs: Uint32Array;
  readonly writable: boolean;
  /** The memory that the pages are in, and where each begins. */
  readonly buffer: ArrayBufferLike;
  readonly offsets: Float64Array;
  /** Whether the pages follow each other in `buffer`. */
  readonly contiguous: boolean;
}

/** The granting side, which frontends need. */
export interface GrantAllocator extends AsyncDisposable {
  /** Allocates zeroed pages, contiguous here, and grants them to `domid`. Errors: ENOSPC out of references, ENOMEM. */
  allocate(domid: Domid, count: number, options: { writable: boolean }): GrantedPages;
  /** Ends the grants and frees the pages. A page that is still mapped is freed when its mapper lets go. */
  release(pages: GrantedPages): void;
  /** Releases what is left and closes the device. Harmless when repeated. */
  close(): void;
}
