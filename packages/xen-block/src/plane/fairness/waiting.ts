import { grown } from '../grown.js';
import type { BlockRing } from '../rings/ring.js';
import type { Guest, Sharers } from './sharers.js';

const NONE = -1;

/**
 * The requests that wait for memory or for their guest's turn: a list for each ring, in the order in which they were
 * taken. The guests with such rings are in turn.
 */
export class Waiting {
  /** Those with requests that wait. */
  readonly guests: Guest[] = [];
  readonly #sharers: Sharers;
  /** By ring index. */
  readonly #first: number[] = [];
  readonly #last: number[] = [];
  readonly #count: number[] = [];
  /** Whether it is among its guest's rings. */
  readonly #isListed: boolean[] = [];
  #unsettled = false;
  /** By row: the row behind it. */
  #next = new Int32Array(256);
  /** 1: it was counted as one that waits for memory. */
  #starved = new Uint8Array(256);
  #total = 0;

  constructor(sharers: Sharers) {
    this.#sharers = sharers;
  }

  open({ index }: BlockRing): void {
    this.#first[index] = this.#last[index] = NONE;
    this.#count[index] = 0;
    this.#isListed[index] = false;
  }

  /** How many wait, of all rings. */
  get total(): number {
    return this.#total;
  }

  countOf(ring: BlockRing): number {
    return this.#count[ring.index];
  }

  /** The ring's next row, or -1. */
  firstOf(ring: BlockRing): number {
    return this.#first[ring.index];
  }

  add(ring: BlockRing, row: number): void {
    const { index } = ring;
    if (row >= this.#next.length) this.#grow(row);
    this.#next[row] = NONE;
    if (this.#first[index] === NONE) this.#first[index] = row;
    else this.#next[this.#last[index]] = row;
    this.#last[index] = row;
    this.#total++;
    this.#starved[row] = 0;
    this.#count[index]++;
    if (!this.#isListed[index]) this.#list(ring);
    ring.counters.waiting(this.#count[index]);
  }

  removeFirst(ring: BlockRing): void {
    const { index } = ring;
    this.#first[index] = this.#next[this.#first[index]];
    this.#total--;
    ring.counters.waiting(--this.#count[index]);
    if (this.#count[index] === 0) this.#unsettled = true;
  }

  /** A request waits for memory: counted once. */
  starve(ring: BlockRing, row: number): void {
    if (this.#starved[row] === 1) return;
    this.#starved[row] = 1;
    ring.counters.starved();
  }

  /** At the end of a pass: guests and rings of which none waits any more leave the order. */
  settle(): void {
    if (!this.#unsettled) return;
    this.#unsettled = false;
    const { guests } = this;
    let left = 0;
    for (let i = 0; i < guests.length; i++) {
      this.#settleGuest(guests[i]);
      if (guests[i].waiting.length > 0) guests[left++] = guests[i];
    }
    guests.length = left;
  }

  #settleGuest(guest: Guest): void {
    const { waiting } = guest;
    let left = 0;
    let next = 0;
    for (let i = 0; i < waiting.length; i++) {
      if (i === guest.next) next = left;
      if (this.#count[waiting[i].index] > 0) waiting[left++] = waiting[i];
      else this.#isListed[waiting[i].index] = false;
    }
    waiting.length = left;
    guest.next = left > 0 ? next % left : 0;
  }

  #list(ring: BlockRing): void {
    const guest = this.#sharers.guestOf(ring);
    this.#isListed[ring.index] = true;
    if (guest.waiting.length === 0) this.guests.push(guest);
    guest.waiting.push(ring);
  }

  #grow(row: number): void {
    const rows = Math.max(row + 1, this.#next.length * 2);
    this.#next = grown(this.#next, new Int32Array(rows));
    this.#starved = grown(this.#starved, new Uint8Array(rows));
  }
}
