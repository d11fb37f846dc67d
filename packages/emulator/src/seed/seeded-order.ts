/**
 * The order in which things reach domains, drawn by lot from a seed: events, requests to xenstored, and what it answers. Whatever may happen next in a real machine, one thing of it happens in a turn of the event loop, or nothing. The
 * lots depend on nothing but the seed and what was posted before, so that the same program has the same order again.
 */

/** The last of what happened that is kept. */
const TRACE_LENGTH = 10_000;

/** What may happen next. */
interface Posted {
  readonly label: string;
  readonly run: () => void;
}

/** Draws what happens next. */
export class SeededOrder {
  readonly #trace: string[] = [];
  readonly #posted: Posted[] = [];
  #state: number;
  #scheduled = false;

  /** `seed`: a whole number; of large ones the lower 32 bits count. */
  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** What happened until now, at most the last ten thousand of it. */
  get trace(): readonly string[] {
    return [...this.#trace];
  }

  /** Has `run` happen in some later turn. `label` is for the trace. */
  post(label: string, run: () => void): void {
    this.#posted.push({ label, run });
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#turn);
  }

  /** Puts the first `count` of `items` into an order that is drawn. */
  shuffle(items: Uint32Array, count: number): void {
    for (let left = count; left > 1; left--) {
      const at = this.#lot(left);
      [items[at], items[left - 1]] = [items[left - 1], items[at]];
    }
  }

  readonly #turn = (): void => {
    this.#scheduled = false;
    // One lot more than there are things: with it, nothing of this happens, and the program goes on alone.
    const [drawn] = this.#posted.splice(this.#lot(this.#posted.length + 1), 1);
    if (this.#posted.length > 0 && !this.#scheduled) {
      this.#scheduled = true;
      setImmediate(this.#turn);
    }
    if (drawn === undefined) return;
    this.#trace.push(drawn.label);
    if (this.#trace.length > TRACE_LENGTH) this.#trace.shift();
    drawn.run();
  };

  /** A number below `count`: a counter, mixed (mulberry32). */
  #lot(count: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % count;
  }
}
