/** How long to wait between tries. */
export interface BackoffTimes {
  /** Milliseconds before the second try in a row; twice as long before each further one. */
  readonly firstMs: number;
  /** Milliseconds, at most. */
  readonly mostMs: number;
}

/** A part of each wait is left to chance, so that many that failed together do not all come back together. */
const CHANCE = 0.25;

/** The waits of tries that fail one after the other: none before the first, then ever longer ones up to a limit. */
export class Backoff {
  readonly #times: BackoffTimes;
  readonly #random: () => number;
  #failures = 0;

  constructor(times: BackoffTimes, random: () => number = Math.random) {
    this.#times = times;
    this.#random = random;
  }

  /** Failures in a row. */
  get failures(): number {
    return this.#failures;
  }

  /** Another failure. Returns the milliseconds to wait before the next try. */
  fail(): number {
    const doublings = this.#failures++ - 1;
    if (doublings < 0) return 0;
    const { firstMs, mostMs } = this.#times;
    return Math.min(firstMs * 2 ** doublings, mostMs) * (1 - CHANCE * this.#random());
  }

  /** What failed has gone well for long enough: the next failure is the first of a row. */
  reset(): void {
    this.#failures = 0;
  }
}
