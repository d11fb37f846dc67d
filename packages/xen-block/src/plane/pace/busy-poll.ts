import { TrialInterval } from './trial-interval.js';

/** A look that takes this long was interrupted: somebody else needs the processor. */
const INTERRUPTED_MS = 1;
/** How long polling rests after that. */
const REST_MS = 100;
/** Looks between two readings of the clock, which may be a system call. */
const LOOKS = 32;
/** Looks that may be in vain, one after the other, before polling stops. */
const MOST_MISSES = 2;
/** Sleeps before polling is tried for the first time. */
const FIRST_INTERVAL = 4;

/**
 * Looks for more work for a while before the thread sleeps: about as long as a sleep and its wake-up cost, so that a
 * look in vain costs no more than that again. It stops when looks are in vain and is tried again now and then, ever
 * less often while that is in vain too; and it rests when the processor is taken away meanwhile.
 */
export class BusyPoll {
  readonly #window: number;
  #misses = MOST_MISSES;
  readonly #trials = new TrialInterval(FIRST_INTERVAL);
  #restUntil = 0;

  /** `window` in milliseconds; 0 turns polling off. */
  constructor(window: number) {
    this.#window = window;
  }

  /** Looks again and again until `found` says true or the time is over; says whether it did. */
  run(found: () => boolean): boolean {
    if (!this.#due()) return false;
    const begin = performance.now();
    if (begin < this.#restUntil) return false;
    const success = this.#look(found, begin);
    if (success) {
      this.#misses = 0;
      this.#trials.reset();
    } else if (++this.#misses >= MOST_MISSES) {
      this.#trials.lengthen();
    }
    return success;
  }

  #due(): boolean {
    if (this.#window === 0) return false;
    return this.#misses < MOST_MISSES || this.#trials.due();
  }

  #look(found: () => boolean, begin: number): boolean {
    const end = begin + this.#window;
    for (let before = begin; ; ) {
      for (let i = 0; i < LOOKS; i++) if (found()) return true;
      const now = performance.now();
      if (now - before > INTERRUPTED_MS) this.#restUntil = now + REST_MS;
      if (now >= end) return false;
      before = now;
    }
  }
}
