import type { RequestTimes } from './request-times.js';

/** Ends a connection whose server leaves a request unanswered. One timer for all requests, as long as some are sent. */
export class SilenceWatch {
  readonly #limit: number;
  readonly #times: RequestTimes;
  readonly #onSilence: () => void;
  #timer: NodeJS.Timeout | undefined;

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
    this.#timer = setTimeout(() => this.#look(), ms).unref();
  }

  #look(): void {
    this.#timer = undefined;
    const oldest = this.#times.oldestSent;
    if (oldest === Number.POSITIVE_INFINITY) return;
    const left = oldest + this.#limit - performance.now();
    if (left <= 0) this.#onSilence();
    else this.#arm(left);
  }
}
