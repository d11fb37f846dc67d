import type { Addon } from '../addon.js';

/** Operations between two looks. */
const INTERVAL = 1024;

/**
 * Keeps the page cache free of an image that is read and written past it. Direct writes to pages that somebody left
 * there (a copy of the image, a look at its partitions, another backend's buffered writes), and direct reads of dirty
 * ones, do not end within io_uring's call: a kernel thread has to write out and drop each page first.
 */
export class PageCache {
  readonly #addon: Addon;
  readonly #fd: number;
  #left = INTERVAL;
  #dropping: Promise<void> | undefined;

  constructor(addon: Addon, fd: number) {
    this.#addon = addon;
    this.#fd = fd;
    this.#drop();
  }

  /** `count` more operations were started. */
  used(count: number): void {
    this.#left -= count;
    if (this.#left > 0) return;
    this.#left = INTERVAL;
    this.#drop();
  }

  /** Begins to write out and drop what is there, on a thread of the pool; free of charge when nothing is. */
  #drop(): void {
    this.#dropping ??= new Promise((resolve) => {
      this.#addon.dropCache(this.#fd, () => {
        this.#dropping = undefined;
        resolve();
      });
    });
  }

  /** Resolves when the descriptor is not used any more. */
  async close(): Promise<void> {
    await this.#dropping;
  }
}
