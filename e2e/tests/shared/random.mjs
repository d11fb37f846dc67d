/** Numbers that a seed determines (mulberry32). */
export class Random {
  #state;

  constructor(seed) {
    this.#state = seed >>> 0;
  }

  /** 32 bits, signed. */
  word() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return mixed ^ (mixed >>> 14);
  }

  /** A whole number below `limit`. */
  below(limit) {
    return (this.word() >>> 0) % limit;
  }

  /** Below 1. */
  fraction() {
    return (this.word() >>> 0) / 2 ** 32;
  }

  pick(list) {
    return list[this.below(list.length)];
  }
}
