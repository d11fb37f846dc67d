/** Bytes of a page, as O_DIRECT and grant mappings know it. */
export const PAGE_BYTES = 4096;

/**
 * Zeroed memory for queues: whole pages, page aligned (as O_DIRECT and grant mappings want it), and shareable with
 * worker threads. Pages that are never touched cost nothing. Throws RangeError when the address space has no room.
 */
export function allocateMemory(bytes: number): SharedArrayBuffer {
  const rounded = Math.max(PAGE_BYTES, Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES);
  // A plain ArrayBuffer comes from malloc, 16 bytes past a page; a growable one is mapped by V8 for itself.
  return new SharedArrayBuffer(rounded, { maxByteLength: rounded });
}
