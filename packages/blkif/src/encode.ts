import type { Abi } from './abi.js';
import { BlkifOp } from './protocol.js';

const TWO_32 = 2 ** 32;

function putId(target: Int32Array, at: number, abi: Abi, idLow: number, idHigh: number): void {
  target[at + abi.idWord] = idLow;
  target[at + abi.idWord + 1] = idHigh;
}

/** 64 bits from a non-negative integer below 2^53. */
function putWide(target: Int32Array, at: number, value: number): void {
  target[at] = value % TWO_32;
  target[at + 1] = value / TWO_32;
}

/** Words of a direct request with `segments` segments: what is to be put on the ring. */
export function readWriteWords(abi: Abi, segments: number): number {
  return abi.segmentsWord + 2 * segments;
}

/** Words of a discard request. */
export function discardWords(abi: Abi): number {
  return abi.discardSectorsWord + 2;
}

/** Words of an indirect request with all its references. */
export function indirectWords(abi: Abi): number {
  return abi.indirectGrefsWord + 8;
}

/**
 * Writes the head of a read, write, barrier or flush at `target[at ..]`; the segments follow with encodeSegment at
 * `at + abi.segmentsWord + 2 * i`. `sector` is in 512-byte units.
 */
export function encodeReadWrite(
  target: Int32Array,
  at: number,
  abi: Abi,
  operation: number,
  nrSegments: number,
  handle: number,
  idLow: number,
  idHigh: number,
  sector: number,
): void {
  target.fill(0, at, at + abi.segmentsWord);
  target[at] = operation | (nrSegments << 8) | (handle << 16);
  putId(target, at, abi, idLow, idHigh);
  putWide(target, at + abi.sectorWord, sector);
}

/** Writes a discard request. `sector` and `sectors` are in 512-byte units, `flag` is 0 or {@link DISCARD_SECURE}. */
export function encodeDiscard(
  target: Int32Array,
  at: number,
  abi: Abi,
  flag: number,
  handle: number,
  idLow: number,
  idHigh: number,
  sector: number,
  sectors: number,
): void {
  target.fill(0, at, at + discardWords(abi));
  target[at] = BlkifOp.discard | (flag << 8) | (handle << 16);
  putId(target, at, abi, idLow, idHigh);
  putWide(target, at + abi.sectorWord, sector);
  putWide(target, at + abi.discardSectorsWord, sectors);
}

/**
 * Writes an indirect request around `operation` (read or write), its references zero; they follow with
 * {@link encodeIndirectGref}, and the segments go to the pages that those name.
 */
export function encodeIndirect(
  target: Int32Array,
  at: number,
  abi: Abi,
  operation: number,
  nrSegments: number,
  handle: number,
  idLow: number,
  idHigh: number,
  sector: number,
): void {
  target.fill(0, at, at + indirectWords(abi));
  target[at] = BlkifOp.indirect | (operation << 8) | (nrSegments << 16);
  putId(target, at, abi, idLow, idHigh);
  putWide(target, at + abi.sectorWord, sector);
  target[at + abi.indirectHandleWord] = handle;
}

/** Writes the grant reference of the `index`-th page of segments of an indirect request. */
export function encodeIndirectGref(target: Int32Array, at: number, abi: Abi, index: number, gref: number): void {
  target[at + abi.indirectGrefsWord + index] = gref;
}
