interface Range {
  readonly start: number;
  readonly end: number;
  readonly run: () => void;
}

/** Lets ranges that overlap have their turn one after the other, in the order in which they came. */
export class RangeLocks {
  readonly #held: Range[] = [];
  readonly #waiting: Range[] = [];

  /** Calls `run` when [start, end) is free: at once, or from inside a `release`. */
  acquire(start: number, end: number, run: () => void): void {
    const range = { start, end, run };
    if (overlaps(this.#held, range) || overlaps(this.#waiting, range)) this.#waiting.push(range);
    else this.#start(range);
  }

  /** Frees what `acquire` got for [start, end). */
  release(start: number, end: number): void {
    const index = this.#held.findIndex((range) => range.start === start && range.end === end);
    this.#held.splice(index, 1);
    for (let i = 0; i < this.#waiting.length; ) {
      const range = this.#waiting[i];
      if (overlaps(this.#held, range) || overlaps(this.#waiting.slice(0, i), range)) {
        i++;
        continue;
      }
      this.#waiting.splice(i, 1);
      this.#start(range);
    }
  }

  #start(range: Range): void {
    this.#held.push(range);
    range.run();
  }
}

function overlaps(ranges: readonly Range[], { start, end }: Range): boolean {
  return ranges.some((other) => other.start < end && start < other.end);
}
