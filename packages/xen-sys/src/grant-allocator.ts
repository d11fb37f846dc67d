import type { Domid } from './numbers.js';
/** Pages of this domain that another domain may map, as /dev/xen/gntalloc gives them. */
export interface GrantedPages {
  /** The domain that may map them, as it was given to {@link GrantAllocator.allocate}. */
  readonly domid: Domid;
  /** A grant reference for each page, in the order of the pages: what a frontend publishes. */
  readonly refs: Uint32Array;
  /** Whether that domain may write. This domain always may. */
  readonly writable: boolean;
  /** The memory that the pages are in. Native: exactly the pages. Emulator: the whole RAM of this domain. */
  readonly buffer: ArrayBufferLike;
  /** Where in `buffer` each page begins, in bytes. */
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
