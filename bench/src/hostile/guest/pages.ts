import type { GrantAllocator, GrantedPages } from '@xenpv/xen-sys';
import type { Random } from '../../program/random.js';
import { drawRun, hasRun, NEXT, PAGE, PLACES, putRun, runLength, SECTOR } from '../oracle/contents.js';

export const Access = { writable: 1, readOnly: 2, anotherDomain: 3 } as const;

const ODD_PAGES = 2;
/** References are small numbers in the emulator. */
const MOST_REFS = 32 * 1024 + 1024;

/**
 * The pages of a connection, all of whose bytes are known at all times: nothing may be written to them but what was asked
 * for. Some are granted to be read only, some to another domain.
 */
export class GuestPages {
  readonly count: number;
  readonly bytes: Buffer[] = [];
  readonly words: Int32Array[] = [];
  readonly refs: number[] = [];
  readonly access: number[] = [];
  /** Of each sector of each page. */
  readonly contents: Uint32Array;
  /** The number of the request that has it, or 0. */
  readonly owner: Int32Array;
  /** Pages that no request may change. */
  readonly odd: number[] = [];
  readonly #random: Random;
  readonly #allocator: GrantAllocator;
  readonly #granted: GrantedPages[] = [];
  readonly #ofRef = new Int32Array(MOST_REFS).fill(-1);
  readonly #free: Int32Array;
  #freeCount = 0;

  constructor(allocator: GrantAllocator, backend: number, count: number, random: Random) {
    this.#allocator = allocator;
    this.#random = random;
    this.count = count + 2 * ODD_PAGES;
    this.contents = new Uint32Array(this.count * PLACES);
    this.owner = new Int32Array(this.count);
    this.#free = new Int32Array(this.count);
    // Between the others: what is written past the end of a page is seen.
    this.#add(backend, ODD_PAGES, Access.readOnly);
    this.#add(backend, count, Access.writable);
    this.#add(backend + 0x700, ODD_PAGES, Access.anotherDomain);
  }

  /** The page of a reference, or -1. */
  pageOf(ref: number): number {
    return ref < MOST_REFS ? this.#ofRef[ref] : -1;
  }

  get free(): number {
    return this.#freeCount;
  }

  /** There must be one. */
  take(owner: number): number {
    const page = this.#free[--this.#freeCount];
    this.owner[page] = owner;
    return page;
  }

  give(page: number): void {
    this.owner[page] = 0;
    this.#free[this.#freeCount++] = page;
  }

  /** Fills a page with contents that it did not have before. */
  fill(page: number): void {
    const first = drawRun(this.#random);
    putRun(this.bytes[page], 0, first, PLACES);
    for (let place = 0; place < PLACES; place++) this.contents[page * PLACES + place] = first + place * NEXT;
  }

  /** Whether sectors of a page are as they were. */
  intact(page: number, place: number, count: number): boolean {
    const { contents } = this;
    for (let done = place; done < place + count; ) {
      const at = page * PLACES + done;
      const run = runLength(contents, at, place + count - done);
      if (!hasRun(this.bytes[page], done * SECTOR, contents[at], run)) return false;
      done += run;
    }
    return true;
  }

  /** No request has a page any more, and all have other contents than before. */
  renew(): void {
    this.owner.fill(0);
    for (let page = 0; page < this.count; page++) this.fill(page);
  }

  /** The first page that no request has and that is not as it was, or -1. */
  firstTouched(): number {
    for (let page = 0; page < this.count; page++) {
      if (this.owner[page] <= 0 && !this.intact(page, 0, PLACES)) return page;
    }
    return -1;
  }

  release(): void {
    for (const granted of this.#granted.splice(0)) this.#allocator.release(granted);
  }

  #add(domid: number, count: number, access: number): void {
    const granted = this.#allocator.allocate(domid, count, { writable: access !== Access.readOnly });
    this.#granted.push(granted);
    for (let i = 0; i < count; i++) {
      const page = this.bytes.length;
      this.bytes.push(Buffer.from(granted.buffer as ArrayBuffer, granted.offsets[i], PAGE));
      this.words.push(new Int32Array(granted.buffer, granted.offsets[i], PAGE / 4));
      this.refs.push(granted.refs[i]);
      this.access.push(access);
      this.#ofRef[granted.refs[i]] = page;
      this.fill(page);
      if (access === Access.writable) this.#free[this.#freeCount++] = page;
      else this.odd.push(page);
    }
  }
}
