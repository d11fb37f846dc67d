/** What is known of one kind of event. */
interface Kind {
  began: number;
  count: number;
}

/**
 * Lets through a few events of a kind in each interval, so that a guest cannot fill the log. The clock is in
 * milliseconds.
 */
export class RateLimit {
  readonly #limit: number;
  readonly #intervalMs: number;
  readonly #now: () => number;
  readonly #kinds = new Map<string, Kind>();
  #suppressed = 0;

  constructor(limit: number, intervalMs: number, now: () => number = () => performance.now()) {
    this.#limit = limit;
    this.#intervalMs = intervalMs;
    this.#now = now;
  }

  /** How many events were suppressed, of all kinds, since the start. */
  get suppressed(): number {
    return this.#suppressed;
  }

  /** Undefined if the event is to be suppressed; otherwise how many of its kind were suppressed before it. */
  admit(kind: string): { suppressed: number } | undefined {
    const now = this.#now();
    const seen = this.#kinds.get(kind);
    if (seen && now - seen.began < this.#intervalMs) {
      seen.count++;
      if (seen.count <= this.#limit) return { suppressed: 0 };
      this.#suppressed++;
      return undefined;
    }
    this.#kinds.set(kind, { began: now, count: 1 });
    return { suppressed: seen ? Math.max(0, seen.count - this.#limit) : 0 };
  }

  /** Forgets the kinds whose interval is over; tells of each how many were suppressed and never told. */
  *expire(): Generator<{ kind: string; suppressed: number }> {
    const now = this.#now();
    for (const [kind, { began, count }] of this.#kinds) {
      if (now - began < this.#intervalMs) continue;
      this.#kinds.delete(kind);
      if (count > this.#limit) yield { kind, suppressed: count - this.#limit };
    }
  }

  /** Forgets the kinds that end so (a device is gone); the result is how many were suppressed and never told. */
  forget(ending: string): number {
    let untold = 0;
    for (const [kind, { count }] of this.#kinds) {
      if (!kind.endsWith(ending)) continue;
      untold += Math.max(0, count - this.#limit);
      this.#kinds.delete(kind);
    }
    return untold;
  }
}
