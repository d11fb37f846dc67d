/*
 * A segment is 8 bytes, in a direct request as in an indirect page: grant reference u32, first sector u8, last sector
 * u8, padding. `at` is the word it begins at: `abi.segmentsWord + SEGMENT_WORDS * i` in a slot, `SEGMENT_WORDS * i`
 * in a page.
 */

import type { Gref } from './gref.js';

/** Words of a segment. */
export const SEGMENT_WORDS = 2;

/** The grant reference of the page, u32. */
export function segmentGref(words: Int32Array, at: number): Gref {
  return words[at] >>> 0;
}

/** The first sector in the page, 0 to 7 when it is right, 0 to 255 as it comes. */
export function segmentFirst(words: Int32Array, at: number): number {
  return words[at + 1] & 0xff;
}

/** The last sector in the page, inclusive; as {@link segmentFirst}. */
export function segmentLast(words: Int32Array, at: number): number {
  return (words[at + 1] >>> 8) & 0xff;
}

/** Writes a segment, its padding zero. */
export function encodeSegment(target: Int32Array, at: number, gref: Gref, first: number, last: number): void {
  target[at] = gref;
  target[at + 1] = first | (last << 8);
}
