const FIRST_MS = 50;
const LAST_MS = 5000;

/** How long a backoff waits. */
export interface BackoffOptions {
  /** The pause after the first failure, in milliseconds; 50 when not given. */
  readonly firstMs?: number | undefined;
  /** The longest pause, in milliseconds; 5000 when not given. */
  readonly lastMs?: number | undefined;
  /** How much of a pause may be left out by chance, from 0 to 1; a half when not given. */
  readonly spread?: number | undefined;
  /** A number from 0 to 1, not included; `Math.random` when not given. */
  readonly random?: (() => number) | undefined;
}

/**
 * How long to wait before something that failed is tried again: twice as long after each failure up to a limit, and a
 * random part less, so that those who failed together do not try again together.
 */
export class Backoff {
  readonly #firstMs: number;
  readonly #lastMs: number;
  readonly #spread: number;
  readonly #random: () => number;
  #failures = 0;

  constructor({ firstMs = FIRST_MS, lastMs = LAST_MS, spread = 0.5, random = Math.random }: BackoffOptions = {}) {
    this.#firstMs = firstMs;
    this.#lastMs = lastMs;
    this.#spread = spread;
    this.#random = random;
  }

  /** It failed: the pause before the next try, in milliseconds. */
  failed(): number {
    const longest = Math.min(this.#firstMs * 2 ** this.#failures, this.#lastMs);
    this.#failures++;
    return longest * (1 - this.#random() * this.#spread);
  }

  /** It worked: the next failure is a first one. */
  worked(): void {
    this.#failures = 0;
  }
}
