import type { Guest } from './sharers.js';

/** Bytes of the largest request that is copied at once: those without indirect segments have less. */
export const COPIED_AT_ONCE = 64 * 1024;

const NONE = -1;

/** What {@link Slices} has to know of its rows. */
export interface SlicedRows {
  guestOf(row: number): Guest;
  /** Whether it has failed: the rest of it needs no copy. */
  failed(row: number): boolean;
  /** Its segments. */
  segments(row: number): number;
  /** How long a slice of the guest may be now, in bytes. Called for each that is staged. */
  takeSlice(guest: Guest): number;
  /** Stages the copies of its segments from number `from` on, of about so many bytes; returns the number after them. */
  stage(row: number, from: number, bytes: number): number;
}

/**
 * Copies of large requests in one direction, in slices: one in each pass, of the guests in turn. So a pass stays short
 * whatever is asked for, and with it the time that anybody else waits for the next one.
 *
 * What must hold: a slice that was staged counts when it was carried out. One that was not is staged again.
 */
export class Slices {
  readonly #rows: SlicedRows;
  readonly #direction: 'copiesIn' | 'copiesOut';
  /** Guests with rows, in turn. */
  readonly #guests: Guest[] = [];
  #next = 0;
  #count = 0;
  /** Up to which segment the row is copied whose slice was staged, or -1. */
  #staged = NONE;

  constructor(direction: 'copiesIn' | 'copiesOut', rows: SlicedRows) {
    this.#direction = direction;
    this.#rows = rows;
  }

  /** Rows that are not copied to the end. */
  get count(): number {
    return this.#count;
  }

  add(row: number): void {
    const guest = this.#rows.guestOf(row);
    const copies = guest[this.#direction];
    if (copies.rows.length === 0) this.#guests.push(guest);
    copies.rows.push(row);
    this.#count++;
  }

  /** Stages one slice, if there is any. */
  stage(): void {
    if (this.#count === 0) return;
    const guest = this.#guests[this.#next % this.#guests.length];
    const { rows, done } = guest[this.#direction];
    this.#staged = this.#rows.failed(rows[0])
      ? this.#rows.segments(rows[0])
      : this.#rows.stage(rows[0], done, this.#rows.takeSlice(guest));
  }

  /** What was staged was carried out. A row that is copied to its end, or -1. */
  commit(): number {
    if (this.#staged === NONE) return NONE;
    const at = this.#next % this.#guests.length;
    const copies = this.#guests[at][this.#direction];
    copies.done = this.#staged;
    this.#staged = NONE;
    this.#next = at + 1;
    if (copies.done < this.#rows.segments(copies.rows[0])) return NONE;
    copies.done = 0;
    this.#count--;
    const row = copies.rows.shift() ?? NONE;
    if (copies.rows.length === 0) {
      this.#guests.splice(at, 1);
      this.#next = at;
    }
    return row;
  }
}
