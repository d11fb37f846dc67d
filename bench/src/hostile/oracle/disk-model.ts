import type { Random } from '../../program/random.js';
import { ANY, hasRun, runLength, SECTOR } from './contents.js';

const CHANGING = 255;
const MOST_READERS = 200;

/** What a disk must hold, sector by sector; what a guest hands to whoever looks at the disk itself. */
export interface DiskState {
  /** The content of each sector, or another one that it may have as well. */
  readonly contents: Uint32Array;
  readonly others: Uint32Array;
}

/**
 * What a disk's sectors must hold, and which of them are in use: a request that changes sectors has them alone, so that
 * what a reader must find is known. Where a request may or may not have been carried out, a sector has one of two contents,
 * until it was read.
 */
export class DiskModel {
  readonly sectors: number;
  readonly #contents: Uint32Array;
  readonly #others: Uint32Array;
  /** The number of the change that a sector's content is from. */
  readonly #changes: Uint32Array;
  readonly #users: Uint8Array;
  #change = 0;
  #flushed = 0;

  /** A disk of zeroes. */
  constructor(sectors: number) {
    this.sectors = sectors;
    this.#contents = new Uint32Array(sectors);
    this.#others = new Uint32Array(sectors);
    this.#changes = new Uint32Array(sectors);
    this.#users = new Uint8Array(sectors);
  }

  get state(): DiskState {
    return { contents: this.#contents, others: this.#others };
  }

  /** The number of the last change that has ended. */
  get lastChange(): number {
    return this.#change;
  }

  content(sector: number): number {
    return this.#contents[sector];
  }

  /** The first sector of a range that is free now, a multiple of `unit`, or -1 when none was found. */
  pick(random: Random, sectors: number, how: 'read' | 'change', unit: number): number {
    if (sectors > this.sectors) return -1;
    for (let tries = 0; tries < 6; tries++) {
      const drawn = random.below(this.sectors - sectors + 1);
      const sector = drawn - (drawn % unit);
      if (this.#isFree(sector, sectors, how)) return sector;
    }
    return -1;
  }

  /** False: somebody has it. */
  take(sector: number, sectors: number, how: 'read' | 'change'): boolean {
    if (!this.#isFree(sector, sectors, how)) return false;
    for (let at = sector; at < sector + sectors; at++) {
      if (how === 'change') this.#users[at] = CHANGING;
      else this.#users[at]++;
    }
    return true;
  }

  give(sector: number, sectors: number, how: 'read' | 'change'): void {
    for (let at = sector; at < sector + sectors; at++) {
      if (how === 'change') this.#users[at] = 0;
      else this.#users[at]--;
    }
  }

  /** A connection has ended, with all its requests. */
  giveAll(): void {
    this.#users.fill(0);
  }

  #isFree(sector: number, sectors: number, how: 'read' | 'change'): boolean {
    for (let at = sector; at < sector + sectors; at++) {
      if (how === 'change' ? this.#users[at] !== 0 : this.#users[at] >= MOST_READERS) return false;
    }
    return true;
  }

  /** A change has ended: the contents of the sectors that `set` and `maybe` are told next are from it. */
  newChange(): number {
    return ++this.#change;
  }

  set(sector: number, content: number): void {
    this.#contents[sector] = this.#others[sector] = content;
    this.#changes[sector] = this.#change;
  }

  /** It is there, or what was there before. */
  maybe(sector: number, content: number): void {
    const before = this.#contents[sector];
    this.#changes[sector] = this.#change;
    if (before === content && this.#others[sector] === content) return;
    if (content === ANY || before === ANY) this.#contents[sector] = this.#others[sector] = ANY;
    else if (this.#others[sector] !== before && this.#others[sector] !== content) this.#contents[sector] = ANY;
    if (content !== ANY) this.#others[sector] = this.#contents[sector] === ANY ? ANY : content;
  }

  /** It is on stable storage by itself. */
  setStable(sector: number): void {
    this.#changes[sector] = 0;
  }

  /** A flush that began when `change` was the last one has succeeded. */
  flushed(change: number): void {
    this.#flushed = Math.max(this.#flushed, change);
  }

  /** The disk was without power: nobody knows what became of a change that no flush has covered. */
  powerWasCut(): void {
    for (let sector = 0; sector < this.sectors; sector++) {
      if (this.#changes[sector] > this.#flushed) this.#contents[sector] = this.#others[sector] = ANY;
    }
    this.#changes.fill(0);
  }

  /**
   * Whether `bytes` from `at` on are what `count` sectors hold, which are then known. `found` gets their contents, from
   * its element `to` on.
   */
  holds(bytes: Buffer, at: number, sector: number, count: number, found: Uint32Array, to: number): boolean {
    for (let done = 0; done < count; ) {
      const run = runLength(this.#contents, sector + done, count - done);
      if (this.#contents[sector + done] === ANY) {
        found[to + done++] = ANY;
      } else if (hasRun(bytes, at + done * SECTOR, this.#contents[sector + done], run)) {
        for (let i = 0; i < run; i++, done++)
          found[to + done] = this.#know(sector + done, this.#contents[sector + done]);
      } else {
        if (!this.#holdsOne(bytes, at + done * SECTOR, sector + done)) return false;
        found[to + done] = this.#contents[sector + done];
        done++;
      }
    }
    return true;
  }

  /** Whether that may be what a sector holds. Nothing is known afterwards that was not before. */
  mayHold(bytes: Buffer, at: number, sector: number): boolean {
    const content = this.#contents[sector];
    return content === ANY || hasRun(bytes, at, content, 1) || hasRun(bytes, at, this.#others[sector], 1);
  }

  #holdsOne(bytes: Buffer, at: number, sector: number): boolean {
    const content = this.#contents[sector];
    const other = this.#others[sector];
    if (hasRun(bytes, at, content, 1)) this.#know(sector, content);
    else if (other !== content && hasRun(bytes, at, other, 1)) this.#know(sector, other);
    else return false;
    return true;
  }

  #know(sector: number, content: number): number {
    this.#contents[sector] = this.#others[sector] = content;
    return content;
  }
}

/** The first sector of the disk itself that is not as it must be, or -1. */
export function firstWrong(disk: Buffer, { contents, others }: DiskState): number {
  for (let sector = 0; sector < contents.length; sector++) {
    if (contents[sector] === ANY) continue;
    const at = sector * SECTOR;
    if (!hasRun(disk, at, contents[sector], 1) && !hasRun(disk, at, others[sector], 1)) return sector;
  }
  return -1;
}
