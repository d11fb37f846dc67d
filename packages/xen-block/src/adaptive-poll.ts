/** A look that takes this long was interrupted: somebody else needs the processor. */
const INTERRUPTED_MS = 1;
/** How long polling rests after that. */
const REST_MS = 100;
const FIRST_MS = 0.004;

/**
 * How long to look for more work before sleeping. The window grows while sleeps turn out shorter than its limit, for
 * then a little more patience would have saved a sleep; it shrinks when they are longer, and polling rests when the
 * processor is taken away meanwhile. (QEMU tunes its event loop in this way.)
 */
export class AdaptivePoll {
  readonly #max: number;
  #window = 0;
  #sleptAt = 0;
  #restUntil = 0;

  /** `max` in milliseconds; 0 turns polling off. */
  constructor(max: number) {
    this.#max = max;
  }

  /** Milliseconds now. */
  get window(): number {
    return this.#window;
  }

  /** Looks again and again until `found` says true or the window is over; says whether it did. */
  run(found: () => boolean): boolean {
    if (this.#window === 0) return false;
    const now = performance.now();
    if (now < this.#restUntil) return false;
    const end = now + this.#window;
    for (let before = now; ; ) {
      if (found()) return true;
      const after = performance.now();
      if (after - before > INTERRUPTED_MS) this.#restUntil = after + REST_MS;
      if (after >= end) return false;
      before = after;
    }
  }

  /** Nothing was found: the thread goes to sleep. */
  sleeping(now = this.#time()): void {
    this.#sleptAt = now;
  }

  /** Something came after all. */
  woken(now = this.#time()): void {
    if (this.#max === 0 || this.#sleptAt === 0) return;
    const slept = now - this.#sleptAt;
    this.#sleptAt = 0;
    if (slept < this.#max) this.#window = Math.min(this.#max, Math.max(FIRST_MS, this.#window * 2));
    else this.#window = this.#window <= FIRST_MS ? 0 : this.#window / 2;
  }

  #time(): number {
    return this.#max === 0 ? 0 : performance.now();
  }
}
