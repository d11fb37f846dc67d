import type { RequestTimes } from './request-times.js';

/** Of the limit: what a server has besides, while this process reads what has come. */
const SECOND_LOOK = 0.1;

/** Ends a connection whose server leaves a request unanswered. One timer for all requests, as long as some are sent. */
export class SilenceWatch {
  readonly #limit: number;
  readonly #times: RequestTimes;
  readonly #onSilence: () => void;
  #timer: NodeJS.Timeout | undefined;
  #due = 0;
  /** When the request was sent that has no answer in time. */
  #suspect = 0;

  /** `limit`: milliseconds; Infinity for none. */
  constructor(limit: number, times: RequestTimes, onSilence: () => void) {
    this.#limit = limit;
    this.#times = times;
    this.#onSilence = onSilence;
  }

  /** Something was sent. */
  start(): void {
    if (this.#timer || this.#limit === Number.POSITIVE_INFINITY) return;
    this.#arm(this.#limit);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #arm(ms: number): void {
    this.#due = performance.now() + ms;
    this.#timer = setTimeout(() => this.#look(), ms).unref();
  }

  #look(): void {
    this.#timer = undefined;
    const oldest = this.#times.oldestSent;
    if (oldest === Number.POSITIVE_INFINITY) return;
    const now = performance.now();
    const left = oldest + this.#limit - now;
    if (left > 0) this.#arm(left);
    else if (oldest === this.#suspect) this.#onSilence();
    else {
      // A process that stood still itself comes to its timers before its sockets, where the answer may be.
      this.#suspect = oldest;
      const late = now - this.#due;
      this.#arm(Math.min(Math.max(late, SECOND_LOOK * this.#limit), this.#limit));
    }
  }
}
