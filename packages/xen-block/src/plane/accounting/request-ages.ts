import { AGE_SPANS, Age } from './layout.js';

/**
 * How long the oldest request of a ring is in flight, without a clock for each request: the thread that serves the ring
 * notes in which span of time a request began, and this side, on any thread, begins a new span now and then. So it also
 * sees a thread that hangs. Ages are short by at most the time between two calls of {@link nextSpan}. Times are in
 * milliseconds.
 */
export class RequestAges {
  readonly #values: Float64Array;
  /** By span: when it was over. */
  readonly #endedAt = new Float64Array(AGE_SPANS);

  constructor(buffer: SharedArrayBuffer) {
    this.#values = new Float64Array(buffer);
  }

  /** Begins another span, if the present one has requests. When all spans have some, the last one goes on. */
  nextSpan(now: number): void {
    const span = this.#values[Age.span];
    if (this.#inFlight(span) === 0) return;
    for (let i = 1; i < AGE_SPANS; i++) {
      const next = (span + i) % AGE_SPANS;
      if (this.#inFlight(next) > 0) continue;
      this.#endedAt[span] = now;
      this.#values[Age.span] = next;
      return;
    }
  }

  /** The age of the oldest request in flight; 0 when there is none, or none of an earlier span. */
  oldest(now: number): number {
    const present = this.#values[Age.span];
    let oldest = 0;
    for (let span = 0; span < AGE_SPANS; span++) {
      if (span !== present && this.#inFlight(span) > 0) oldest = Math.max(oldest, now - this.#endedAt[span]);
    }
    return oldest;
  }

  #inFlight(span: number): number {
    return this.#values[Age.inFlight + span];
  }
}
