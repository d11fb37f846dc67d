/**
 * Lets through a few events of a kind in each interval, so that a guest cannot fill the log. The clock is in
 * milliseconds.
 */
export class RateLimit {
  readonly #limit: number;
  readonly #intervalMs: number;
  readonly #now: () => number;
  readonly #kinds = new Map<string, { began: number; count: number }>();

  constructor(limit: number, intervalMs: number, now: () => number = () => performance.now()) {
    this.#limit = limit;
    this.#intervalMs = intervalMs;
    this.#now = now;
  }

  /** Undefined if the event is to be suppressed; otherwise how many of its kind were suppressed before it. */
  admit(kind: string): { suppressed: number } | undefined {
    const now = this.#now();
    const seen = this.#kinds.get(kind);
    if (seen && now - seen.began < this.#intervalMs) {
      seen.count++;
      return seen.count > this.#limit ? undefined : { suppressed: 0 };
    }
    this.#kinds.set(kind, { began: now, count: 1 });
    return { suppressed: seen ? Math.max(0, seen.count - this.#limit) : 0 };
  }

  /** Forgets a kind (its device is gone). */
  forget(kind: string): void {
    this.#kinds.delete(kind);
  }
}
