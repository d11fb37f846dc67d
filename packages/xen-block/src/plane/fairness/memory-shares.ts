/**
 * Who may have how much of a data plane's memory. In comes a ring whose next request needs a run; out goes the place of
 * one, or the answer that it has to wait.
 *
 * - A cap, which moves: what a disk and its guest hold together is at most twice what is left free. So a disk alone
 *   has at most half of the memory, and whoever comes next finds as much. It could not be taken back from a disk whose
 *   storage hangs. n disks of n guests that want more than there is have one of n + 1 parts each.
 * - A guarantee: a disk may always hold as much as its largest request takes. Where the memory has no room for that it
 *   comes from the reserve. So a disk that waits has requests in flight, and goes on with their end: nobody waits for
 *   another one's storage. An idle disk reserves nothing.
 *
 * What must hold: what a disk, and what a guest, holds is the sum of their requests' runs; a request that waits has none.
 */
import type { BlockRing } from '../rings/ring.js';
import type { DataMemory } from '../transfer/data-memory.js';
import { runBytes } from '../transfer/page-pool.js';
import type { Sharers } from './sharers.js';

const NONE = -1;
/** A run is at most this part of what is left of the reserve: smaller requests find room when larger ones do not. */
const RESERVE_PART = 8;

export class MemoryShares {
  readonly #memory: DataMemory;
  readonly #sharers: Sharers;
  /** By ring index: whether its next request was refused, and what was there then. */
  readonly #isRefused: boolean[] = [];
  readonly #slack: number[] = [];
  readonly #held: number[] = [];
  readonly #reserve: number[] = [];

  constructor(memory: DataMemory, sharers: Sharers) {
    this.#memory = memory;
    this.#sharers = sharers;
  }

  /** The place of a run of at least `bytes`, or -1: the request has to wait. */
  take(ring: BlockRing, bytes: number): number {
    const disk = this.#sharers.diskOf(ring);
    const { pool } = this.#memory;
    const run = runBytes(bytes);
    const guaranteed = disk.held + run <= disk.guarantee;
    let place = NONE;
    if (guaranteed || disk.held + disk.guest.held + 2 * run <= 2 * (pool.freeBytes - run))
      place = pool.take(bytes, disk.guest.number);
    if (place === NONE && guaranteed) place = this.#takeReserve(bytes, run, disk.guest.number);
    if (place === NONE) return NONE;
    disk.held += run;
    disk.guest.held += run;
    ring.counters.memory(run);
    return place;
  }

  give(ring: BlockRing, place: number): void {
    const run = this.#memory.give(place);
    const disk = this.#sharers.diskOf(ring);
    disk.held -= run;
    disk.guest.held -= run;
    ring.counters.memory(-run);
  }

  open({ index }: BlockRing): void {
    this.#isRefused[index] = false;
  }

  /** The ring's next request found no memory. */
  refused(ring: BlockRing): void {
    const { index } = ring;
    this.#isRefused[index] = true;
    this.#slack[index] = this.#slackOf(ring);
    this.#held[index] = this.#sharers.diskOf(ring).held;
    this.#reserve[index] = this.#memory.reserveFree;
  }

  isRefused({ index }: BlockRing): boolean {
    return this.#isRefused[index];
  }

  /** It has what it needs. */
  accepted({ index }: BlockRing): void {
    this.#isRefused[index] = false;
  }

  /** Whether the ring's next request may find memory, unless it was refused and nothing was given back since. Cheap. */
  mayTry(ring: BlockRing): boolean {
    const { index } = ring;
    return (
      !this.#isRefused[index] ||
      this.#slackOf(ring) > this.#slack[index] ||
      this.#sharers.diskOf(ring).held < this.#held[index] ||
      this.#memory.reserveFree > this.#reserve[index]
    );
  }

  /** Whether all memory is free: what finds none then never will. */
  get unused(): boolean {
    return this.#memory.usedBytes === 0;
  }

  /** What does not add up, in words; or undefined. For tests, and none of the passes. */
  get broken(): string | undefined {
    const { usedBytes } = this.#memory;
    const { byDisks, byGuests } = this.#sharers.held;
    if (byDisks === usedBytes && byGuests === usedBytes) return undefined;
    return `${usedBytes} bytes of memory are used, ${byDisks} by disks, ${byGuests} by guests`;
  }

  /** Bytes that the ring's disk holds. */
  heldBy(ring: BlockRing): number {
    return this.#sharers.diskOf(ring).held;
  }

  #slackOf(ring: BlockRing): number {
    const disk = this.#sharers.diskOf(ring);
    return 2 * this.#memory.pool.freeBytes - disk.held - disk.guest.held;
  }

  #takeReserve(bytes: number, run: number, guest: number): number {
    if (run * RESERVE_PART > this.#memory.reserveFree) return NONE;
    return this.#memory.takeReserve(bytes, guest);
  }
}
