import { TrialInterval } from './trial-interval.js';

/** Most requests that are ever waited for. */
const MOST = 16;
/** Sleeps before a higher limit is tried for the first time. */
const FIRST_INTERVAL = 8;

/**
 * How many requests to wait for before serving a ring whose requests finish within one pass. A frontend that keeps
 * many requests in flight sends them one by one, and a wake-up for each is most of their cost. The limit is at most
 * half of the requests that the frontend was seen to send, without an answer, in the longest time of a sleep: so it
 * never stands still. To learn that number, a longer wait is tried now and then, ever less often while it is in vain.
 */
export class Batching {
  readonly #most: number;
  #limit = 1;
  #armed = 1;
  readonly #trials = new TrialInterval(FIRST_INTERVAL);

  /** `slots` of the ring. */
  constructor(slots: number) {
    this.#most = Math.min(MOST, slots >>> 1);
  }

  /** How many requests this sleep is to wait for, 1 or more. */
  next(): number {
    const tries = this.#limit < this.#most && this.#trials.due();
    this.#armed = tries ? Math.min(4 * this.#limit, 2 * this.#most) : this.#limit;
    return this.#armed;
  }

  /** The sleep for {@link next} requests has ended early or with all of them; `arrived` came. */
  woken(arrived: number): void {
    if (arrived >= this.#armed && this.#tried) this.#raise(this.#armed >>> 1);
  }

  /** The sleep for {@link next} requests has lasted as long as it may; `arrived` came. */
  timedOut(arrived: number): void {
    if (arrived >= this.#armed) this.woken(arrived);
    else this.#lower(Math.max(1, arrived >>> 1));
  }

  get #tried(): boolean {
    return this.#armed > this.#limit;
  }

  #raise(limit: number): void {
    this.#limit = limit;
    this.#trials.hasten();
  }

  #lower(limit: number): void {
    if (!this.#tried) this.#trials.reset();
    else if (limit <= this.#limit) this.#trials.lengthen();
    else this.#trials.repeat();
    this.#limit = limit;
  }
}
