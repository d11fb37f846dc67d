import type { Abi } from './abi.js';
import type { Gref } from './gref.js';
import { BlkifOp, MAX_INDIRECT_PAGES } from './protocol.js';
import { encodeSegment, SEGMENT_WORDS } from './segment.js';

const TWO_32 = 2 ** 32;

/**
 * Writes requests, one after the other, into `words`: a private slot that a FrontRing then puts on the ring. Made once
 * for each ring; a request costs no allocation. What it writes is zeroed first, so that no field is left of the request
 * before. Ids are two words; sectors are in 512-byte units and non-negative integers below 2^53. Nothing is checked:
 * a test may write any nonsense.
 *
 * @example
 * ```ts
 * import { ABIS, BlkifOp, RequestWriter } from '@xenpv/blkif';
 *
 * const slot = new Int32Array(ABIS.x86_64.slotWords);
 * const request = new RequestWriter(slot, ABIS.x86_64);
 * request.readWrite(BlkifOp.read, 1, 42, 0, 2048); // one segment, id 42, sector 2048
 * request.segment(0, 1234, 0, 7); // grant 1234, sectors 0 to 7 of its page
 * ```
 */
export class RequestWriter {
  /** The request that was written last, from word 0 on. What follows its own words may be of an earlier one. */
  readonly words: Int32Array;
  /** The layout that is written: that of the ring. */
  readonly abi: Abi;
  readonly #handle: number;

  /** `words` has at least `abi.slotWords`; `handle` is the device's, which no backend looks at. */
  constructor(words: Int32Array, abi: Abi, handle = 0) {
    this.words = words;
    this.abi = abi;
    this.#handle = handle;
  }

  /**
   * The head of a read, write, barrier or flush; its segments follow with {@link segment}. Returns the words that are
   * to be put on the ring.
   */
  readWrite(operation: number, nrSegments: number, idLow: number, idHigh: number, sector: number): number {
    const { words, abi } = this;
    words.fill(0, 0, abi.segmentsWord);
    words[0] = operation | (nrSegments << 8) | (this.#handle << 16);
    this.#put(idLow, idHigh, sector);
    return abi.segmentsWord + SEGMENT_WORDS * nrSegments;
  }

  /** The `index`-th segment of that request. */
  segment(index: number, gref: Gref, first: number, last: number): void {
    encodeSegment(this.words, this.abi.segmentsWord + SEGMENT_WORDS * index, gref, first, last);
  }

  /** A discard; `flag` is 0 or {@link DISCARD_SECURE}. Returns the words that are to be put on the ring. */
  discard(flag: number, idLow: number, idHigh: number, sector: number, sectors: number): number {
    const { words, abi } = this;
    const end = abi.discardSectorsWord + 2;
    words.fill(0, 0, end);
    words[0] = BlkifOp.discard | (flag << 8) | (this.#handle << 16);
    this.#put(idLow, idHigh, sector);
    putWide(words, abi.discardSectorsWord, sectors);
    return end;
  }

  /**
   * An indirect request around `operation`, read or write. Its references are zero; they follow with
   * {@link indirectGref}, and the segments go to the pages that those name. Returns the words that are to be put on the
   * ring.
   */
  indirect(operation: number, nrSegments: number, idLow: number, idHigh: number, sector: number): number {
    const { words, abi } = this;
    const end = abi.indirectGrefsWord + MAX_INDIRECT_PAGES;
    words.fill(0, 0, end);
    words[0] = BlkifOp.indirect | (operation << 8) | (nrSegments << 16);
    this.#put(idLow, idHigh, sector);
    words[abi.indirectHandleWord] = this.#handle;
    return end;
  }

  /** The grant reference of the `index`-th page of segments of that request. */
  indirectGref(index: number, gref: Gref): void {
    this.words[this.abi.indirectGrefsWord + index] = gref;
  }

  #put(idLow: number, idHigh: number, sector: number): void {
    const { words, abi } = this;
    words[abi.idWord] = idLow;
    words[abi.idWord + 1] = idHigh;
    putWide(words, abi.sectorWord, sector);
  }
}

function putWide(words: Int32Array, at: number, value: number): void {
  words[at] = value % TWO_32;
  words[at + 1] = value / TWO_32;
}
