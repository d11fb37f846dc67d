import type { Abi } from './abi.js';
import type { Gref } from './gref.js';

/*
 * Fields of a request at `words[at ..]`.
 *
 * What comes in: a private copy of a slot (BackRing.takeRequest), with any content; never shared memory, as what was
 * validated must be what is used. What must hold: the ABI is the one that the frontend's `protocol` key named. What
 * never happens: an exception or an allocation, or a wrapped number: a sector beyond 2^53 comes out inexact, and huge.
 */

const TWO_32 = 2 ** 32;

/** 64 bits as a number; inexact above 2^53, which is beyond the end of any disk. */
function wide(words: Int32Array, at: number): number {
  return (words[at + 1] >>> 0) * TWO_32 + (words[at] >>> 0);
}

/** The operation, a {@link BlkifOp} or not, 0 to 255. */
export function requestOperation(words: Int32Array, at: number): number {
  return words[at] & 0xff;
}

/** Segments of a direct read, write, barrier or flush, 0 to 255. */
export function requestNrSegments(words: Int32Array, at: number): number {
  return (words[at] >>> 8) & 0xff;
}

/** The device handle that the frontend chose: no backend looks at it. */
export function requestHandle(words: Int32Array, at: number): number {
  return words[at] >>> 16;
}

/** The low 32 bits of the id, as a signed word: to be echoed, not understood. */
export function requestIdLow(words: Int32Array, at: number, abi: Abi): number {
  return words[at + abi.idWord];
}

/** The high 32 bits of the id. */
export function requestIdHigh(words: Int32Array, at: number, abi: Abi): number {
  return words[at + abi.idWord + 1];
}

/** The first sector, in 512-byte units. Inexact above 2^53. */
export function requestSector(words: Int32Array, at: number, abi: Abi): number {
  return wide(words, at + abi.sectorWord);
}

/** The flags of a discard, see {@link DISCARD_SECURE}. */
export function discardFlag(words: Int32Array, at: number): number {
  return (words[at] >>> 8) & 0xff;
}

/** The length of a discard, in 512-byte units. Inexact above 2^53. */
export function discardSectors(words: Int32Array, at: number, abi: Abi): number {
  return wide(words, at + abi.discardSectorsWord);
}

/** The operation inside an indirect request: read or write, or the request is wrong. */
export function indirectOperation(words: Int32Array, at: number): number {
  return (words[at] >>> 8) & 0xff;
}

/** The segments of an indirect request, 0 to 65535. */
export function indirectNrSegments(words: Int32Array, at: number): number {
  return words[at] >>> 16;
}

/** The device handle of an indirect request. */
export function indirectHandle(words: Int32Array, at: number, abi: Abi): number {
  return words[at + abi.indirectHandleWord] & 0xffff;
}

/** The grant reference of the `index`-th page of segments, u32. */
export function indirectGref(words: Int32Array, at: number, abi: Abi, index: number): Gref {
  return words[at + abi.indirectGrefsWord + index] >>> 0;
}
