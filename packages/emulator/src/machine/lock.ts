const FREE = 0;
const HELD = 1;
const CONTENDED = 2;

/** After this long the holder has died inside the section (its worker was terminated): sections take microseconds. */
const ABANDONED_MS = 2000;

/** A mutual exclusion between threads: one word of shared memory, on which threads sleep while it is taken. */
export class SharedLock {
  readonly #words: Int32Array;
  readonly #at: number;

  constructor(words: Int32Array, at: number) {
    this.#words = words;
    this.#at = at;
  }

  /** Runs `section` while no other thread is in one. Not re-entrant. */
  run<T>(section: () => T): T {
    this.#acquire();
    try {
      return section();
    } finally {
      this.#release();
    }
  }

  #acquire(): void {
    if (Atomics.compareExchange(this.#words, this.#at, FREE, HELD) === FREE) return;
    while (Atomics.exchange(this.#words, this.#at, CONTENDED) !== FREE) {
      if (Atomics.wait(this.#words, this.#at, CONTENDED, ABANDONED_MS) === 'timed-out') return;
    }
  }

  #release(): void {
    if (Atomics.exchange(this.#words, this.#at, FREE) === CONTENDED) Atomics.notify(this.#words, this.#at, 1);
  }
}
