/** Buckets per doubling: percentiles are right within 9 %. */
const PER_OCTAVE = 8;
/** From 2^-4 µs to beyond an hour. */
const FIRST_OCTAVE = -4;
const BUCKETS = 40 * PER_OCTAVE;

/** Percentiles in microseconds, at most 9 % too high; 0 when nothing was counted. */
export interface Latency {
  /** The median. */
  readonly p50: number;
  /** What 99 of 100 requests stayed within. */
  readonly p99: number;
  /** What 999 of 1000 requests stayed within. */
  readonly p999: number;
  /** The slowest request, exactly. */
  readonly max: number;
}

/** Counts durations in buckets that grow with them; nothing is allocated per duration. */
export class LatencyHistogram {
  readonly #buckets = new Float64Array(BUCKETS);
  #count = 0;
  #max = 0;

  /** Counts one request, by how long it took. */
  add(microseconds: number): void {
    const bucket = Math.ceil((Math.log2(microseconds) - FIRST_OCTAVE) * PER_OCTAVE);
    this.#buckets[Math.min(BUCKETS - 1, Math.max(0, bucket))]++;
    this.#count++;
    if (microseconds > this.#max) this.#max = microseconds;
  }

  /** What was counted so far. */
  read(): Latency {
    return { p50: this.#at(0.5), p99: this.#at(0.99), p999: this.#at(0.999), max: this.#max };
  }

  /** The upper end of the bucket that holds the quantile. */
  #at(quantile: number): number {
    let left = this.#count * quantile;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      left -= this.#buckets[bucket];
      if (left <= 0) return Math.min(this.#max, 2 ** (bucket / PER_OCTAVE + FIRST_OCTAVE));
    }
    return this.#max;
  }
}
