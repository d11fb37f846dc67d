import {
  type Abi,
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
import { BadRequest } from './bad-request.js';
import { type RequestTable, ROW_WORDS } from './table.js';

const LAST_SECTOR_OF_PAGE = 7;

/** What requests are checked against. */
export interface DiskGeometry {
  /** 512-byte sectors; 0 for an empty drive. */
  readonly sectors: number;
  /** Bytes: 512 or 4096. Ranges must be multiples of it. */
  readonly sectorSize: number;
  readonly readOnly: boolean;
  readonly flush: boolean;
  readonly discard: boolean;
  readonly secureDiscard: boolean;
  /** Most segments of an indirect request; 0 when they were not offered. */
  readonly maxIndirectSegments: number;
}

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
 * Second look: the range. The segments are `segmentWords[segmentAt ..]`. Sets `offset` and `length` of the row, in
 * bytes. Sector numbers are compared as doubles in sectors, so that none of the 2^64 wraps. Returns 0 or a
 * {@link BadRequest}.
 */
export function checkRange(
  table: RequestTable,
  row: number,
  abi: Abi,
  disk: DiskGeometry,
  segmentWords: Int32Array,
  segmentAt: number,
): number {
  const operation = table.operation[row];
  if (operation === BlkifOp.discard) return checkDiscard(table, row, abi, disk);
  const count = table.segments[row];
  table.length[row] = 0;
  table.offset[row] = 0;
  // A flush of nothing has no range, and changes nothing on a read-only disk.
  if (count === 0) return 0;
  if (disk.readOnly && operation !== BlkifOp.read) return BadRequest.readOnly;
  const sectors = addSegments(segmentWords, segmentAt, count, disk.sectorSize);
  if (sectors < 0) return -sectors;
  return setRange(table, row, requestSector(table.words, row * ROW_WORDS, abi), sectors, disk);
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

function checkDiscard(table: RequestTable, row: number, abi: Abi, disk: DiskGeometry): number {
  if (disk.readOnly) return BadRequest.readOnly;
  if (!disk.discard) return BadRequest.discardUnsupported;
  const { words } = table;
  const at = row * ROW_WORDS;
  return setRange(table, row, requestSector(words, at, abi), discardSectors(words, at, abi), disk);
}

function setRange(table: RequestTable, row: number, sector: number, sectors: number, disk: DiskGeometry): number {
  if (sector + sectors > disk.sectors) return BadRequest.beyondEnd;
  const unit = disk.sectorSize / SECTOR_SIZE;
  if (sector % unit !== 0 || sectors % unit !== 0) return BadRequest.misaligned;
  table.offset[row] = sector * SECTOR_SIZE;
  table.length[row] = sectors * SECTOR_SIZE;
  return 0;
}

/** Whether a discard asks that the data cannot be had back. Without support for that it is done as a plain one. */
export function isSecureDiscard(table: RequestTable, row: number): boolean {
  return (discardFlag(table.words, row * ROW_WORDS) & DISCARD_SECURE) !== 0;
}
