const BUCKETS_A_DOUBLING = 8;
const BUCKETS = 30 * BUCKETS_A_DOUBLING;
const LEAST_MS = 0.001;

/** How long requests took, by buckets of an eighth of a doubling. */
export class Latencies {
  readonly #counts = new Float64Array(BUCKETS);
  #count = 0;
  most = 0;

  add(milliseconds: number): void {
    this.#count++;
    this.most = Math.max(this.most, milliseconds);
    const bucket = Math.ceil(Math.log2(Math.max(milliseconds, LEAST_MS) / LEAST_MS) * BUCKETS_A_DOUBLING);
    this.#counts[Math.min(bucket, BUCKETS - 1)]++;
  }

  get p50(): number {
    return this.#quantile(0.5);
  }

  get p99(): number {
    return this.#quantile(0.99);
  }

  /** The upper end of its bucket. */
  #quantile(part: number): number {
    let left = this.#count * part;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      left -= this.#counts[bucket];
      if (left <= 0 && this.#count > 0) return Math.min(this.most, LEAST_MS * 2 ** (bucket / BUCKETS_A_DOUBLING));
    }
    return 0;
  }
}
