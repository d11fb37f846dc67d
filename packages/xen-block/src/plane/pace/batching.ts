/** More requests than this are never waited for. */
const MOST = 16;
/** Looks between two trials of a higher limit, and the most there may be after trials that failed. */
const FIRST_INTERVAL = 8;
const LAST_INTERVAL = 1024;

/**
 * For how many requests a ring that is served within the pass had better sleep: a frontend that keeps many under way
 * sends them one by one, and a wake-up for each is most of what they cost. What is waited for is at most half of what
 * the frontend was seen to send without an answer in the time that a sleep may last, so that it never stands still.
 * To learn that, a longer wait is tried now and then, ever less often where it is in vain.
 */
export class HoldOff {
  readonly #most: number;
  #limit = 1;
  #armed = 1;
  #interval = FIRST_INTERVAL;
  #left = FIRST_INTERVAL;

  /** `slots` of the ring. */
  constructor(slots: number) {
    this.#most = Math.min(MOST, slots >>> 1);
  }

  /** Requests to sleep for this time, 1 or more. */
  next(): number {
    const tries = this.#limit < this.#most && --this.#left <= 0;
    this.#armed = tries ? Math.min(4 * this.#limit, 2 * this.#most) : this.#limit;
    return this.#armed;
  }

  /** What a sleep for {@link next} requests has brought; `late` says that its time was over. */
  woken(arrived: number, late: boolean): void {
    const tried = this.#armed > this.#limit;
    if (arrived >= this.#armed) {
      if (tried) this.#raise(this.#armed >>> 1);
    } else if (late) {
      this.#lower(Math.max(1, arrived >>> 1), tried);
    }
  }

  #raise(limit: number): void {
    this.#limit = limit;
    this.#interval = FIRST_INTERVAL;
    this.#left = 1;
  }

  #lower(limit: number, tried: boolean): void {
    if (!tried) this.#interval = FIRST_INTERVAL;
    else if (limit <= this.#limit) this.#interval = Math.min(LAST_INTERVAL, this.#interval * 2);
    this.#left = this.#interval;
    this.#limit = limit;
  }
}
