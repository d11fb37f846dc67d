import type { Guest, Sharers } from './sharers.js';
import { COPIED_AT_ONCE } from './slices.js';

/** What a guest is given in one turn, in bytes moved. */
const TURN = 256 * 1024;
/** What a request costs beside its bytes, whatever it is. */
const REQUEST = 4096;
/** Requests of a guest that are taken off its rings in one pass. */
const TAKEN = 64;
/** Bytes of a slice of a large request: in so many a copy costs little beside its bytes. */
const SLICE = 32 * 1024;
/**
 * The same where another guest has small requests, which may come right after a slice began and wait for its end. Two
 * pages keep its median below twice the one alone; they cost large requests two fifths of their rate at memory's speed.
 */
const SHORT_SLICE = 8 * 1024;
/** For so many turns after its last small request a guest is expected to have another. */
const SMALL_TURNS = 4096;
/** After so much work other guests' rings are looked at that sleep. */
const LONG_PASS = 64 * 1024;
/** After so much the event loop has its turn. */
const LONG_RUN = 2 * 1024 * 1024;

/**
 * Turns of the guests of a data plane, by bytes and requests: deficit round robin. Each pass gives every guest a turn.
 * A request is begun while something of the turn is left, and what it takes beyond that is missing from the next ones.
 * Answers have turns of their own: a guest that reads is not quiet when its requests were begun.
 *
 * With one disk on the thread there is nobody to be fair to, and no turn ends.
 */
export class Turns {
  readonly #sharers: Sharers;
  #turn = 0;
  #work = 0;
  #runWork = 0;
  /** The guest that began a small request last, the other one before it, and when that was. */
  #small: Guest | undefined;
  #smallTurn = 0;
  #smallBefore: Guest | undefined;
  #smallBeforeTurn = 0;

  constructor(sharers: Sharers) {
    this.#sharers = sharers;
  }

  /** A run over the rings begins. */
  beginRun(): void {
    this.#runWork = 0;
  }

  /** A pass begins, and a turn of each guest. */
  begin(): void {
    this.#turn++;
    this.#runWork += this.#work;
    this.#work = 0;
  }

  /** In this pass all turns were too short for what waits: the next ones begin at once. */
  next(): void {
    this.#turn++;
  }

  /** How many of so many requests may be taken off a ring of the guest in this pass. They count as taken. */
  takes(guest: Guest, count: number): number {
    if (this.#sharers.alone) return count;
    this.#refresh(guest);
    const most = Math.min(count, TAKEN - guest.taken);
    guest.taken += most;
    return most;
  }

  /** Whether a request of the guest may begin. */
  has(guest: Guest): boolean {
    if (this.#sharers.alone) return true;
    this.#refresh(guest);
    return guest.spent < TURN;
  }

  /** A request of so many bytes begins. */
  spend(guest: Guest, bytes: number): void {
    guest.spent += bytes + REQUEST;
    const isSmall = bytes <= COPIED_AT_ONCE;
    this.#work += (isSmall ? bytes : 0) + REQUEST;
    if (isSmall) this.#hasSmall(guest);
  }

  #hasSmall(guest: Guest): void {
    if (this.#small !== guest) {
      [this.#smallBefore, this.#smallBeforeTurn] = [this.#small, this.#smallTurn];
      this.#small = guest;
    }
    this.#smallTurn = this.#turn;
  }

  /** How long a slice of a large request of the guest may be, in bytes. It counts as work. */
  takeSlice(guest: Guest): number {
    const isOwn = this.#small === guest;
    const other = isOwn ? this.#smallBefore : this.#small;
    const turn = isOwn ? this.#smallBeforeTurn : this.#smallTurn;
    const bytes = other !== undefined && this.#turn - turn < SMALL_TURNS ? SHORT_SLICE : SLICE;
    this.#work += bytes;
    return bytes;
  }

  /** Whether a request of the guest that moves so many bytes may be answered in this pass; one of each may. */
  answers(guest: Guest, bytes: number): boolean {
    if (guest.answerTurn !== this.#turn) {
      guest.answerTurn = this.#turn;
      guest.answered = 0;
    }
    if (guest.answered >= TURN) return false;
    guest.answered += bytes + REQUEST;
    this.#work += bytes;
    return true;
  }

  /** Somebody else may have waited for this pass. */
  get passIsLong(): boolean {
    return this.#work >= LONG_PASS && !this.#sharers.alone;
  }

  /** What needs the event loop has waited for this run. */
  get runIsLong(): boolean {
    return this.#runWork >= LONG_RUN && !this.#sharers.alone;
  }

  #refresh(guest: Guest): void {
    if (guest.turn === this.#turn) return;
    guest.spent = Math.max(0, guest.spent - (this.#turn - guest.turn) * TURN);
    guest.turn = this.#turn;
    guest.taken = 0;
  }
}
