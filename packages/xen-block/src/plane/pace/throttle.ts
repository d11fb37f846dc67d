import { Budget, sharedNow } from '../../limits/budget.js';

/** A ring that has given up its turn for less than that wakes the thread too often. */
const LEAST_MS = 4;
/** Limits may be changed meanwhile. */
const MOST_MS = 100;

/** What the limits of its disk and its guest leave a ring to take, in one pass. Both are often none, which is one look. */
export class Throttle {
  readonly #budgets: readonly Budget[];
  #active = false;
  #now = 0;
  #requests = 0;
  #bytes = 0;
  #taken = 0;
  #moved = 0;

  constructor(buffers: readonly SharedArrayBuffer[]) {
    this.#budgets = buffers.map((buffer) => new Budget(buffer));
  }

  /** A pass looks at the ring. */
  begin(): void {
    this.#active = false;
    for (let i = 0; i < this.#budgets.length; i++) if (this.#budgets[i].limited) this.#active = true;
    if (!this.#active) return;
    this.#now = sharedNow();
    this.#requests = this.#bytes = Infinity;
    this.#taken = this.#moved = 0;
    for (let i = 0; i < this.#budgets.length; i++) {
      this.#requests = Math.min(this.#requests, this.#budgets[i].requests(this.#now));
      this.#bytes = Math.min(this.#bytes, this.#budgets[i].bytes(this.#now));
    }
  }

  /** Whether anything is limited in this pass. */
  get active(): boolean {
    return this.#active;
  }

  /** Whether another request may be taken in this pass, in which something is limited. */
  get mayTake(): boolean {
    return this.#taken < this.#requests && this.#moved < this.#bytes;
  }

  /** A request was taken that moves so many bytes. */
  took(bytes: number): void {
    this.#taken++;
    this.#moved += bytes;
  }

  /** The pass has taken what it may. */
  end(): void {
    if (this.#taken > 0) this.#charge(this.#taken, this.#moved);
  }

  /** A request of an earlier pass, or of this one, moves so many bytes less than it looked. */
  giveBack(bytes: number): void {
    if (this.#active && bytes > 0) this.#charge(0, -bytes);
  }

  /** Milliseconds until another request may be taken. */
  wait(): number {
    let wait = 0;
    for (let i = 0; i < this.#budgets.length; i++) wait = Math.max(wait, this.#budgets[i].wait(this.#now));
    return Math.min(Math.max(wait, LEAST_MS), MOST_MS);
  }

  #charge(requests: number, bytes: number): void {
    for (let i = 0; i < this.#budgets.length; i++) this.#budgets[i].charge(requests, bytes, this.#now);
  }
}
