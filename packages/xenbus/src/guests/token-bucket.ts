/** What may be done at once after a quiet time, and how often from then on. */
export interface Pace {
  /** The most tokens that there can be; so many are there at first. */
  readonly burst: number;
  /** Tokens that come back each second. */
  readonly perSecond: number;
}

/** Tokens that come at a pace and are taken for what is done. Nobody waits in it: it only says for how long. */
export class TokenBucket {
  readonly #pace: Pace;
  readonly #now: () => number;
  #burst: number;
  #tokens: number;
  #filledAt: number;

  /** `now`: milliseconds. */
  constructor(pace: Pace, now: () => number = () => performance.now()) {
    this.#pace = pace;
    this.#now = now;
    this.#burst = pace.burst;
    this.#tokens = pace.burst;
    this.#filledAt = now();
  }

  /** So many more may be taken at once, and are there. Less, with a negative number. */
  widen(tokens: number): void {
    this.#fill();
    this.#burst += tokens;
    this.#tokens = Math.min(this.#tokens + Math.max(0, tokens), this.#burst);
  }

  /** Takes as many, and returns 0; or takes none and returns the milliseconds until they are there. */
  take(tokens: number): number {
    this.#fill();
    const missing = tokens - this.#tokens;
    if (missing > 0) return Math.ceil((missing / this.#pace.perSecond) * 1000);
    this.#tokens -= tokens;
    return 0;
  }

  #fill(): void {
    const now = this.#now();
    const came = ((now - this.#filledAt) / 1000) * this.#pace.perSecond;
    this.#filledAt = now;
    if (came > 0) this.#tokens = Math.min(this.#tokens + came, this.#burst);
  }
}
