/** What the guests have done, by kind. */
export const KINDS = ['read', 'write', 'flush', 'flushWithData', 'barrier', 'discard'] as const;
export type Kind = (typeof KINDS)[number];

const VERIFIED = KINDS.length;
const LONGEST = VERIFIED + 1;
const OLDEST = LONGEST + 1;
const IN_FLIGHT = OLDEST + 1;
const SIZE = IN_FLIGHT + 1;
const WORDS = SIZE + 1;

/** A guest's figures, in memory that outlives it. One thread of a guest writes them. */
export class GuestFigures {
  readonly memory: SharedArrayBuffer;
  readonly #words: Float64Array;

  constructor(memory = new SharedArrayBuffer(8 * WORDS)) {
    this.memory = memory;
    this.#words = new Float64Array(memory);
  }

  /** An operation was answered, after so many milliseconds. */
  count(kind: Kind, milliseconds: number): void {
    this.#words[KINDS.indexOf(kind)]++;
    this.#words[LONGEST] = Math.max(this.#words[LONGEST], milliseconds);
  }

  countOf(kind: Kind): number {
    return this.#words[KINDS.indexOf(kind)];
  }

  get operations(): number {
    return KINDS.reduce((sum, kind) => sum + this.countOf(kind), 0);
  }

  addVerified(bytes: number): void {
    this.#words[VERIFIED] += bytes;
  }

  /** Bytes that were read and compared. */
  get verified(): number {
    return this.#words[VERIFIED];
  }

  /** The longest operation since this was asked before, in milliseconds. */
  takeLongest(): number {
    const longest = this.#words[LONGEST];
    this.#words[LONGEST] = 0;
    return longest;
  }

  /** The age of the oldest operation in flight, in milliseconds, and how many there are. */
  setInFlight(oldest: number, count: number): void {
    this.#words[OLDEST] = oldest;
    this.#words[IN_FLIGHT] = count;
  }

  get oldest(): number {
    return this.#words[OLDEST];
  }

  get inFlight(): number {
    return this.#words[IN_FLIGHT];
  }

  /** The size of the disk as the guest knows it, in sectors. */
  set sectors(sectors: number) {
    this.#words[SIZE] = sectors;
  }

  get sectors(): number {
    return this.#words[SIZE];
  }
}
