import {
  BlkifOp,
  DISCARD_SECURE,
  discardFlag,
  discardSectors,
  indirectNrSegments,
  indirectOperation,
  MAX_SEGMENTS,
  requestNrSegments,
  requestOperation,
  requestSector,
  SECTOR_SIZE,
  SEGMENT_WORDS,
  segmentFirst,
  segmentLast,
} from '@xenpv/blkif';
import { XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import type { DiskGeometry } from '../../disk-description.js';
import type { BlockRing } from '../rings/ring.js';
import { BadRequest } from './bad-request.js';
import type { RequestSegments } from './segments.js';
import { type RequestTable, ROW_WORDS } from './table.js';

const LAST_SECTOR_OF_PAGE = XEN_PAGE_SIZE / SECTOR_SIZE - 1;

/**
 * First look at a request, before its segments are at hand: sets `operation` and `segments` of the row. Returns 0 or
 * a {@link BadRequest}. For an indirect request `operation` is the inner one, good or bad: the answer echoes it.
 */
export function checkHeader(table: RequestTable, row: number, disk: DiskGeometry): number {
  const { words } = table;
  const at = row * ROW_WORDS;
  const operation = requestOperation(words, at);
  table.operation[row] = operation;
  switch (operation) {
    case BlkifOp.read:
    case BlkifOp.write:
      return checkCount(table, row, requestNrSegments(words, at), 1, MAX_SEGMENTS);
    case BlkifOp.writeBarrier:
    case BlkifOp.flushDiskcache:
      if (!disk.flush) return BadRequest.flushUnsupported;
      return checkCount(table, row, requestNrSegments(words, at), 0, MAX_SEGMENTS);
    case BlkifOp.discard:
      table.segments[row] = 0;
      return 0;
    case BlkifOp.indirect:
      return checkIndirect(table, row, disk);
    default:
      table.segments[row] = 0;
      return BadRequest.unknownOperation;
  }
}

function checkIndirect(table: RequestTable, row: number, disk: DiskGeometry): number {
  const at = row * ROW_WORDS;
  const inner = indirectOperation(table.words, at);
  table.operation[row] = inner;
  table.segments[row] = 0;
  if (inner !== BlkifOp.read && inner !== BlkifOp.write) return BadRequest.badIndirectOperation;
  if (disk.maxIndirectSegments === 0) return BadRequest.indirectUnsupported;
  return checkCount(table, row, indirectNrSegments(table.words, at), 1, disk.maxIndirectSegments);
}

function checkCount(table: RequestTable, row: number, count: number, least: number, most: number): number {
  table.segments[row] = count <= most ? count : 0;
  if (count > most) return BadRequest.tooManySegments;
  return count < least ? BadRequest.noSegments : 0;
}

/**
 * Second look: the range, once the segments are at hand. Sets `offset` and `length` of the row, in bytes. Sector numbers
 * are compared as doubles in sectors, so that none of the 2^64 wraps. Returns 0 or a {@link BadRequest}.
 */
export function checkRange(table: RequestTable, row: number, ring: BlockRing, segments: RequestSegments): number {
  const operation = table.operation[row];
  if (operation === BlkifOp.discard) return checkDiscard(table, row, ring);
  const disk = ring.geometry;
  const count = table.segments[row];
  table.length[row] = 0;
  table.offset[row] = 0;
  // A flush of nothing has no range, and changes nothing on a read-only disk.
  if (count === 0) return 0;
  if (disk.readOnly && operation !== BlkifOp.read) return BadRequest.readOnly;
  const sectors = addSegments(segments.words(row), segments.at(row, ring), count, disk.sectorSize);
  if (sectors < 0) return -sectors;
  return setRange(table, row, requestSector(table.words, row * ROW_WORDS, ring.abi), sectors, disk);
}

/**
 * Bytes that a request may move, before anything of it is checked: those of its segments, or of their whole pages where
 * they are not at hand. 0 for a discard, which moves none, and for what will be refused.
 */
export function mostBytes(table: RequestTable, row: number, { abi }: BlockRing): number {
  const { words } = table;
  const at = row * ROW_WORDS;
  const operation = requestOperation(words, at);
  if (operation === BlkifOp.discard) return 0;
  if (operation === BlkifOp.indirect) return indirectNrSegments(words, at) * XEN_PAGE_SIZE;
  const count = requestNrSegments(words, at);
  if (count > MAX_SEGMENTS) return 0;
  return SECTOR_SIZE * Math.max(0, addSegments(words, at + abi.segmentsWord, count, SECTOR_SIZE));
}

/** What a request asks for, before anything of it is checked: of an indirect one the inner operation. */
export function tracedOperation(words: Int32Array, at: number): number {
  const operation = requestOperation(words, at);
  return operation === BlkifOp.indirect ? indirectOperation(words, at) : operation;
}

/** The sectors of all segments together, or minus the reason why not. */
function addSegments(words: Int32Array, at: number, count: number, sectorSize: number): number {
  let sectors = 0;
  const unit = sectorSize / SECTOR_SIZE;
  for (let i = 0; i < count; i++) {
    const first = segmentFirst(words, at + i * SEGMENT_WORDS);
    const last = segmentLast(words, at + i * SEGMENT_WORDS);
    if (last > LAST_SECTOR_OF_PAGE || last < first) return -BadRequest.badSegment;
    const length = last - first + 1;
    if (length % unit !== 0) return -BadRequest.misaligned;
    sectors += length;
  }
  return sectors;
}

function checkDiscard(table: RequestTable, row: number, { abi, geometry }: BlockRing): number {
  if (geometry.readOnly) return BadRequest.readOnly;
  if (!geometry.discard) return BadRequest.discardUnsupported;
  const { words } = table;
  const at = row * ROW_WORDS;
  return setRange(table, row, requestSector(words, at, abi), discardSectors(words, at, abi), geometry);
}

function setRange(table: RequestTable, row: number, sector: number, sectors: number, disk: DiskGeometry): number {
  if (sector + sectors > disk.sectors) return BadRequest.beyondEnd;
  const unit = disk.sectorSize / SECTOR_SIZE;
  if (sector % unit !== 0 || sectors % unit !== 0) return BadRequest.misaligned;
  table.offset[row] = sector * SECTOR_SIZE;
  table.length[row] = sectors * SECTOR_SIZE;
  return 0;
}

/** Whether a discard asks that its data cannot be recovered. Without support for that it is done as a plain one. */
export function isSecureDiscard(table: RequestTable, row: number): boolean {
  return (discardFlag(table.words, row * ROW_WORDS) & DISCARD_SECURE) !== 0;
}
