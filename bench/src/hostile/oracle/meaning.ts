import {
  type Abi,
  BlkifOp,
  BlkifStatus,
  MAX_INDIRECT_PAGES,
  MAX_SEGMENTS,
  SEGMENT_WORDS,
  SEGMENTS_PER_INDIRECT_PAGE,
} from '@xenpv/blkif';
import { Access, type GuestPages } from '../guest/pages.js';
import { PLACES } from './contents.js';

const TWO_32 = 2 ** 32;

/** What a disk offers, and how sure its storage is. */
export interface Terms {
  readonly sectors: number;
  /** Of 512 bytes: what ranges and segments are multiples of. */
  readonly unit: number;
  /** 0: none are offered. */
  readonly maxIndirectSegments: number;
  readonly flush: boolean;
  readonly discard: boolean;
  readonly readOnly: boolean;
  /** The storage fails operations now and then. */
  readonly odd: boolean;
  /** Pages are mapped, if need be for writing too. */
  readonly mapped: boolean;
}

/** Statuses that may be answered, a bit each. */
export const May = { okay: 1, error: 2, eopnotsupp: 4 } as const;

export const Effect = { none: 0, read: 1, write: 2, discard: 3, flush: 4 } as const;

export function bitOf(status: number): number {
  switch (status) {
    case BlkifStatus.okay:
      return May.okay;
    case BlkifStatus.error:
      return May.error;
    case BlkifStatus.eopnotsupp:
      return May.eopnotsupp;
    default:
      return 0;
  }
}

/**
 * What io/blkif.h says that the words of a request mean, without a look at how the backend does it: what may be answered, and
 * what is done then. Made once and filled again and again.
 */
export class Meaning {
  /** The operation that the answer names. */
  operation = 0;
  /** {@link May} bits. */
  may = 0;
  effect: number = Effect.none;
  sector = 0;
  sectors = 0;
  /** A barrier: its data is on stable storage. */
  stable = false;
  segments = 0;
  /** The same page in two segments; looked for in what was changed by chance only. */
  doubled = false;
  seeksDoubled = false;
  /** It names a page that another request has: nobody can say what becomes of that. */
  conflict = false;
  readonly page: Int32Array;
  readonly first: Uint8Array;
  readonly last: Uint8Array;

  constructor(mostSegments: number) {
    this.page = new Int32Array(mostSegments);
    this.first = new Uint8Array(mostSegments);
    this.last = new Uint8Array(mostSegments);
  }

  /** `owner`: the number of the request, whose pages it may name. */
  read(words: Int32Array, abi: Abi, terms: Terms, pages: GuestPages, owner: number): void {
    const operation = words[0] & 0xff;
    this.operation = operation;
    this.effect = Effect.none;
    this.sectors = 0;
    this.segments = 0;
    this.doubled = this.conflict = this.stable = false;
    this.may = May.error;
    this.sector = wide(words, abi.sectorWord);
    const count = (words[0] >>> 8) & 0xff;
    switch (operation) {
      case BlkifOp.read:
      case BlkifOp.write:
        if (count >= 1) this.#direct(words, abi, terms, pages, owner, count);
        break;
      case BlkifOp.writeBarrier:
      case BlkifOp.flushDiskcache:
        if (!terms.flush) this.may = May.eopnotsupp;
        else if (count === 0) this.#succeeds(Effect.flush, terms);
        else this.#direct(words, abi, terms, pages, owner, count);
        this.stable = operation === BlkifOp.writeBarrier;
        break;
      case BlkifOp.discard:
        this.#discard(wide(words, abi.discardSectorsWord), terms);
        break;
      case BlkifOp.indirect:
        this.#indirect(words, abi, terms, pages, owner);
        break;
      default:
        this.may = May.eopnotsupp;
    }
  }

  #succeeds(effect: number, { odd }: Terms): void {
    this.effect = effect;
    this.may = odd ? May.okay | May.error : May.okay;
  }

  #discard(sectors: number, terms: Terms): void {
    if (terms.readOnly) return;
    if (!terms.discard) this.may = May.eopnotsupp;
    else if (this.sector + sectors <= terms.sectors && this.sector % terms.unit === 0 && sectors % terms.unit === 0) {
      this.sectors = sectors;
      this.#succeeds(Effect.discard, terms);
    }
  }

  #direct(words: Int32Array, abi: Abi, terms: Terms, pages: GuestPages, owner: number, count: number): void {
    if (count > MAX_SEGMENTS) return;
    for (let i = 0; i < count; i++) this.#segment(words, abi.segmentsWord + i * SEGMENT_WORDS, pages);
    this.#transfer(terms, pages, owner);
  }

  #indirect(words: Int32Array, abi: Abi, terms: Terms, pages: GuestPages, owner: number): void {
    const inner = (words[0] >>> 8) & 0xff;
    const count = words[0] >>> 16;
    this.operation = inner;
    if (inner !== BlkifOp.read && inner !== BlkifOp.write) return;
    if (count === 0 || count > terms.maxIndirectSegments) return;
    const lists = Math.ceil(count / SEGMENTS_PER_INDIRECT_PAGE);
    for (let list = 0; list < Math.min(lists, MAX_INDIRECT_PAGES); list++) {
      const page = pages.pageOf(words[abi.indirectGrefsWord + list] >>> 0);
      if (page < 0 || pages.access[page] === Access.anotherDomain) return;
      if (pages.access[page] === Access.writable && pages.owner[page] !== owner) this.conflict = true;
      const end = Math.min(count, (list + 1) * SEGMENTS_PER_INDIRECT_PAGE);
      for (let i = list * SEGMENTS_PER_INDIRECT_PAGE; i < end; i++) {
        this.#segment(pages.words[page], (i % SEGMENTS_PER_INDIRECT_PAGE) * SEGMENT_WORDS, pages);
      }
    }
    this.#transfer(terms, pages, owner);
  }

  #segment(words: Int32Array, at: number, pages: GuestPages): void {
    const i = this.segments++;
    this.page[i] = pages.pageOf(words[at] >>> 0);
    this.first[i] = words[at + 1] & 0xff;
    this.last[i] = (words[at + 1] >>> 8) & 0xff;
  }

  #transfer(terms: Terms, pages: GuestPages, owner: number): void {
    const reads = this.operation === BlkifOp.read;
    if (terms.readOnly && !reads) return;
    let sectors = 0;
    for (let i = 0; i < this.segments; i++) {
      if (this.last[i] >= PLACES || this.last[i] < this.first[i]) return;
      if ((this.last[i] - this.first[i] + 1) % terms.unit !== 0) return;
      sectors += this.last[i] - this.first[i] + 1;
    }
    if (this.sector + sectors > terms.sectors || this.sector % terms.unit !== 0) return;
    this.sectors = sectors;
    this.#grants(terms, pages, owner, reads ? Effect.read : Effect.write);
  }

  #grants(terms: Terms, pages: GuestPages, owner: number, effect: number): void {
    let readOnly = false;
    let bad = false;
    for (let i = 0; i < this.segments; i++) {
      const page = this.page[i];
      if (page < 0 || pages.access[page] === Access.anotherDomain) bad = true;
      else if (pages.access[page] === Access.readOnly) readOnly = true;
      else if (pages.owner[page] !== owner) this.conflict = true;
      for (let j = 0; this.seeksDoubled && j < i; j++) this.doubled ||= page >= 0 && this.page[j] === page;
    }
    // What its good segments name may have been read to before the bad one was met.
    this.effect = effect;
    if (bad || (readOnly && effect === Effect.read)) return;
    this.#succeeds(effect, terms);
    if (readOnly && terms.mapped) this.may |= May.error;
  }
}

function wide(words: Int32Array, at: number): number {
  return (words[at + 1] >>> 0) * TWO_32 + (words[at] >>> 0);
}
