import type { MemorySource } from './memory.js';

/**
 * From here on the C library always asks the operating system for fresh pages (M_MMAP_THRESHOLD_MAX of glibc is
 * 32 MiB), which are zero and take no memory until they are touched. Smaller buffers it may fill with zeroes, which
 * for a thousand idle domains adds up to gigabytes.
 */
const LAZY_BYTES = 33 * 1024 * 1024;

/** Areas begin on cache lines of their own. */
const ALIGNMENT = 64;

/** Zeroed shared memory of at least `bytes` bytes whose untouched pages cost nothing. */
function lazyBuffer(bytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(Math.max(bytes, LAZY_BYTES));
}

/**
 * Memory of this process alone. Tables are small areas out of large lazy buffers. An area is never given out twice:
 * somebody may still look at it.
 */
export class LazyMemory implements MemorySource {
  #buffer = new SharedArrayBuffer(0);
  #used = 0;

  ram(bytes: number): SharedArrayBuffer {
    return lazyBuffer(bytes);
  }

  tables(bytes: number): { buffer: SharedArrayBuffer; offset: number } {
    if (this.#used + bytes > this.#buffer.byteLength) {
      this.#buffer = lazyBuffer(bytes);
      this.#used = 0;
    }
    const offset = this.#used;
    this.#used += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    return { buffer: this.#buffer, offset };
  }
}
