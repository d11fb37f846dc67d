/** The most occasions between two trials. */
const LONGEST = 1024;

/** When to try again what may be in vain: now and then, ever less often while it is. */
export class TrialInterval {
  readonly #first: number;
  #interval: number;
  #left: number;

  /** `first`: occasions until the first trial. */
  constructor(first: number) {
    this.#first = first;
    this.#interval = first;
    this.#left = first;
  }

  /** One more occasion: whether to try now. */
  due(): boolean {
    return --this.#left <= 0;
  }

  /** The trial was in vain: the next is after twice as many occasions. */
  lengthen(): void {
    this.#interval = Math.min(LONGEST, this.#interval * 2);
    this.#left = this.#interval;
  }

  /** The next trial is after as many occasions as this one. */
  repeat(): void {
    this.#left = this.#interval;
  }

  /** Begins anew. */
  reset(): void {
    this.#interval = this.#first;
    this.#left = this.#first;
  }

  /** The trial was a success: the next occasion is one too. */
  hasten(): void {
    this.#interval = this.#first;
    this.#left = 1;
  }
}
