import { Backoff as Pauses } from '@xenpv/xenbus';

/** How long to wait between tries. */
export interface BackoffTimes {
  /** Milliseconds before the second try in a row; twice as long before each further one. */
  readonly firstMs: number;
  /** Milliseconds, at most. */
  readonly mostMs: number;
}

/** Of each wait so much may be left out by chance. */
const SPREAD = 0.25;

/** The waits of tries that fail one after the other: none before the first, then ever longer ones up to a limit. */
export class Backoff {
  readonly #pauses: Pauses;
  #failures = 0;

  constructor({ firstMs, mostMs }: BackoffTimes, random: () => number = Math.random) {
    this.#pauses = new Pauses({ firstMs, lastMs: mostMs, spread: SPREAD, random });
  }

  /** Failures in a row. */
  get failures(): number {
    return this.#failures;
  }

  /** Another failure. Returns the milliseconds to wait before the next try. */
  fail(): number {
    return this.#failures++ === 0 ? 0 : this.#pauses.failed();
  }

  /** What failed has gone well for long enough: the next failure is the first of a row. */
  reset(): void {
    this.#failures = 0;
    this.#pauses.worked();
  }
}
