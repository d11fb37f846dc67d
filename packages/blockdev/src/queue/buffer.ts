import { optionalAddon } from '../addon.js';

/** Bytes of a page, as O_DIRECT and grant mappings know it. */
export const PAGE_BYTES = 4096;

/**
 * Zeroed memory for queues: whole pages, page aligned, as O_DIRECT and grant mappings want it. Pages that are never
 * touched cost nothing. Before and behind it are pages that nobody can touch, so that whoever runs over an end dies at
 * once (native/guarded-memory.h); without the addon it is so behind it only. Throws RangeError when there is no room.
 */
export function allocateMemory(bytes: number): ArrayBufferLike {
  const rounded = Math.max(PAGE_BYTES, Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES);
  const addon = optionalAddon();
  // A plain ArrayBuffer comes from malloc, 16 bytes past a page; a growable one is mapped by V8 for itself.
  if (!addon) return new SharedArrayBuffer(rounded, { maxByteLength: rounded + PAGE_BYTES });
  const memory = addon.allocate(rounded);
  if (typeof memory === 'number') throw new RangeError(`no room for ${rounded} bytes of memory`);
  return memory;
}

/** `bytes` of zeroed memory in `buffer`, from `at` on. */
export interface ArrayMemory {
  readonly buffer: ArrayBufferLike;
  readonly at: number;
}

/** Memory for arrays that JavaScript alone uses. */
export function ordinaryMemory(bytes: number): ArrayMemory {
  return { buffer: new ArrayBuffer(bytes), at: 0 };
}

/** Memory for arrays that the addon uses, too: who runs over its end meets the page behind. `bytes`: a multiple of 8. */
export function guardedMemory(bytes: number): ArrayMemory {
  const buffer = allocateMemory(bytes);
  return { buffer, at: buffer.byteLength - bytes };
}
