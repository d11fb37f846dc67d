import { quickest } from './quickest.js';

/** Milliseconds: reading the clock takes a twentieth of this where it needs no system call. */
const CHEAP_MS = 0.0005;
const EVERY_WHEN_DEAR = 16;

/**
 * The time of what a data plane does. Where reading the clock is a system call (in a PV domain, unless its TSC is
 * stable), only some wake-ups are timed, and each timed request stands for the others.
 */
export class Clock {
  /** One wake-up in so many is timed. */
  readonly every: number;
  /** Milliseconds on the performance clock, when it was last read. */
  now = performance.now();
  /** Whether the requests taken now are timed. */
  timing = false;
  /** Timed requests that are not answered yet. */
  timed = 0;
  #count = 0;

  constructor(every = measuredEvery()) {
    this.every = every;
  }

  /** A wake-up: decides whether it is timed. */
  begin(): void {
    this.timing = ++this.#count % this.every === 0;
    if (this.timing) this.now = performance.now();
  }

  /** Reads the clock if a request is timed. */
  tick(): void {
    if (this.timed > 0) this.now = performance.now();
  }
}

function measuredEvery(): number {
  return quickest(() => performance.now()) > CHEAP_MS ? EVERY_WHEN_DEAR : 1;
}
