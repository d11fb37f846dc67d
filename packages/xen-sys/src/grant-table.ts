import { XenSysError } from './errors.js';
import type { GrantCopyBatch } from './grant-copy.js';
import type { Domid } from './numbers.js';

/** Bytes of a granted page on every architecture. */
export const XEN_PAGE_SIZE = 4096;

/** Pages of another domain, mapped here until they are unmapped. */
export interface GrantMapping {
  /** The domain that granted them. */
  readonly domid: Domid;
  /** The grant references, in the order of the pages. */
  readonly refs: Uint32Array;
  /**
   * As asked of {@link GrantTable.map}. Writing to a native mapping that is not writable ends the process (SIGSEGV).
   */
  readonly writable: boolean;
  /** The memory that the pages are in. Native: exactly the pages. Emulator: the whole RAM of the domain. */
  readonly buffer: ArrayBufferLike;
  /** Where in `buffer` each page begins, in bytes. */
  readonly offsets: Float64Array;
  /** Whether the pages follow each other in `buffer`, as a ring of several pages needs. */
  readonly contiguous: boolean;
  /**
   * The bytes of page `index`, and of no other: a new view. Errors: EINVAL there is no such page, ERR_CLOSED it was
   * unmapped.
   */
  page(index: number): Uint8Array;
}

/** What {@link GrantMapping.page} returns, for those who implement it. */
export function pageView(
  { refs, buffer, offsets }: Pick<GrantMapping, 'refs' | 'buffer' | 'offsets'>,
  index: number,
  unmapped: boolean,
): Uint8Array {
  if (unmapped) throw new XenSysError('ERR_CLOSED', 'gnttab.page', `page ${index} was unmapped`);
  if (!Number.isInteger(index) || index < 0 || index >= refs.length) {
    throw new XenSysError('EINVAL', 'gnttab.page', `there is no page ${index}; the mapping has ${refs.length}`);
  }
  return new Uint8Array(buffer, offsets[index], XEN_PAGE_SIZE);
}

/**
 * One handle on the grant device, used by one thread: maps pages that other domains granted to this one, and
 * copies from and to them. Closing it unmaps all that is left.
 */
export interface GrantTable extends AsyncDisposable {
  /**
   * Maps `refs` of `domid`, all or none. Native mappings are always contiguous.
   * Errors: EINVAL bad reference or not granted to us, EACCES written to though granted read-only,
   * EAGAIN busy, ENOMEM out of mapping handles.
   */
  map(domid: Domid, refs: Uint32Array, options: { writable: boolean }): GrantMapping;
  /** Unmaps. The memory must not be touched afterwards; native buffers are detached. Harmless when repeated. */
  unmap(mapping: GrantMapping): void;
  /**
   * Carries out the whole batch; every segment gets its own status ({@link GrantCopyBatch.status}), so that 0
   * does not mean that all went well. Returns 0, or a negative errno when no status can be trusted.
   */
  copy(batch: GrantCopyBatch): number;
  /**
   * Makes a buffer a local side of copies; returns the address of its first byte. Native: its real address (the
   * handle keeps the buffer alive); emulator: one that only this handle knows.
   */
  register(buffer: ArrayBufferLike): number;
  /** Undoes {@link register}. */
  unregister(buffer: ArrayBufferLike): void;
  /** Unmaps what is left and closes the device. Harmless when repeated. */
  close(): void;
}
