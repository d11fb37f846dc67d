import type { RateLimits } from '../rate-limits.js';

/**
 * Milliseconds on a clock that all threads of the process share and nobody sets: each has a zero of its own for
 * `performance.now()`.
 */
const [seconds, nanoseconds] = process.hrtime();
const OFFSET = seconds * 1000 + nanoseconds / 1e6 - performance.now();

export function sharedNow(): number {
  return performance.now() + OFFSET;
}

/** Of a second: what may be used at once when the limits do not say, and at least: timers come every few milliseconds. */
const BURST = 0.1;
const LEAST_BURST = 0.01;

/** Where the values of a budget are, in 64-bit floats; the lock is the first word of the last one. */
const Field = { iops: 0, iopsBurst: 1, bandwidth: 2, bandwidthBurst: 3, requestsUntil: 4, bytesUntil: 5, lock: 6 };
const FIELDS = 7;

/**
 * What may be done under {@link RateLimits} now: two leaky buckets in shared memory, for any number of threads. Each
 * remembers until when what was done would take at exactly its rate; what is before now is forgotten, but for a burst.
 * What was done may go beyond what is left (a request is larger than that, two threads look at the same time), and the
 * next ones wait the longer: the average is kept to.
 */
export class Budget {
  /** All that it knows: a Budget over the same memory, on any thread, is the same budget. */
  readonly buffer: SharedArrayBuffer;
  readonly #values: Float64Array;
  readonly #lock: Int32Array;

  constructor(buffer = new SharedArrayBuffer(FIELDS * 8)) {
    this.buffer = buffer;
    this.#values = new Float64Array(buffer);
    this.#lock = new Int32Array(buffer, Field.lock * 8, 1);
  }

  /** From now on, with the bursts of a quiet time. */
  set({ iops = 0, bandwidth = 0, iopsBurst, bandwidthBurst }: RateLimits): void {
    this.#acquire();
    const values = this.#values;
    values[Field.iops] = iops;
    values[Field.iopsBurst] = burst(iops, iopsBurst);
    values[Field.bandwidth] = bandwidth;
    values[Field.bandwidthBurst] = burst(bandwidth, bandwidthBurst);
    values[Field.requestsUntil] = values[Field.bytesUntil] = 0;
    this.#release();
  }

  /** Whether there is any limit. */
  get limited(): boolean {
    return this.#values[Field.iops] > 0 || this.#values[Field.bandwidth] > 0;
  }

  /** Requests that may be taken at `now`: a whole number, or Infinity. */
  requests(now: number): number {
    const rate = this.#values[Field.iops];
    if (rate === 0) return Infinity;
    const left = this.#values[Field.iopsBurst] - this.#owed(Field.requestsUntil, rate, now);
    return Math.max(0, Math.floor(left + 1e-6));
  }

  /** Bytes that may be moved at `now`, or Infinity; a request may be taken while it is above 0. */
  bytes(now: number): number {
    const rate = this.#values[Field.bandwidth];
    if (rate === 0) return Infinity;
    return this.#values[Field.bandwidthBurst] - this.#owed(Field.bytesUntil, rate, now);
  }

  /** So many were taken, and move so many bytes; less than 0 gives bytes back. */
  charge(requests: number, bytes: number, now: number): void {
    this.#acquire();
    this.#add(Field.requestsUntil, this.#values[Field.iops], requests, now);
    this.#add(Field.bytesUntil, this.#values[Field.bandwidth], bytes, now);
    this.#release();
  }

  /** Milliseconds from `now` until a request may be taken. */
  wait(now: number): number {
    const values = this.#values;
    const requests = excess(this.#owed(Field.requestsUntil, values[Field.iops], now), values[Field.iopsBurst] - 1);
    const bytes = excess(this.#owed(Field.bytesUntil, values[Field.bandwidth], now), values[Field.bandwidthBurst]);
    return 1000 * Math.max(divide(requests, values[Field.iops]), divide(bytes, values[Field.bandwidth]));
  }

  /** What was done and would not be yet at exactly the rate. */
  #owed(field: number, rate: number, now: number): number {
    return (Math.max(0, this.#values[field] - now) / 1000) * rate;
  }

  #add(field: number, rate: number, amount: number, now: number): void {
    if (rate === 0) return;
    this.#values[field] = Math.max(this.#values[field], now) + (1000 * amount) / rate;
  }

  /** For a few instructions only. A thread that dies within them ends the process. */
  #acquire(): void {
    while (Atomics.compareExchange(this.#lock, 0, 0, 1) !== 0);
  }

  #release(): void {
    Atomics.store(this.#lock, 0, 0);
  }
}

function burst(rate: number, given = rate * BURST): number {
  return Math.max(1, given, rate * LEAST_BURST);
}

function excess(owed: number, allowed: number): number {
  return Math.max(0, owed - allowed);
}

function divide(amount: number, rate: number): number {
  return rate === 0 ? 0 : amount / rate;
}
