import {
  MAX_INDIRECT_PAGES,
  SECTOR_SIZE,
  SEGMENT_WORDS,
  SEGMENTS_PER_INDIRECT_PAGE,
  segmentFirst,
  segmentGref,
  segmentLast,
} from '@xenpv/blkif';
import type { BlockRing } from '../rings/ring.js';
import type { CopyStage } from '../transfer/copy-stage.js';
import type { DataMemory } from '../transfer/data-memory.js';
import type { SegmentList } from '../transfer/segment-list.js';
import { type RequestTable, ROW_WORDS } from './table.js';

const NONE = -1;

/** The most that the protocol can carry in one request. */
export const MAX_INDIRECT_SEGMENTS = MAX_INDIRECT_PAGES * SEGMENTS_PER_INDIRECT_PAGE;

/** Finds our private copy of a request's segments: in its row, or in the copy of its indirect pages. */
export class RequestSegments {
  readonly #table: RequestTable;
  readonly #memory: DataMemory;

  constructor(table: RequestTable, memory: DataMemory) {
    this.#table = table;
    this.#memory = memory;
  }

  /** The array that they are in. */
  words(row: number): Int32Array {
    const indirect = this.#table.indirect[row];
    return indirect === NONE ? this.#table.words : this.#memory.wordsOf(indirect);
  }

  /** The word in it where they begin. */
  at(row: number, ring: BlockRing): number {
    const indirect = this.#table.indirect[row];
    return indirect === NONE ? row * ROW_WORDS + ring.abi.segmentsWord : this.#memory.wordOf(indirect);
  }

  /** Both, and how many they are. */
  listOf(row: number, ring: BlockRing): SegmentList {
    return { words: this.words(row), at: this.at(row, ring), count: this.#table.segments[row] };
  }

  /** Stages the copies of a request's segments to its buffer, in which they follow each other. */
  copyFromGuest(row: number, ring: BlockRing, stage: CopyStage): void {
    const words = this.words(row);
    let at = this.at(row, ring);
    let place = this.#memory.distanceOf(this.#table.buffer[row]);
    stage.begin(row, ring.domid);
    for (let i = this.#table.segments[row]; i > 0; i--, at += SEGMENT_WORDS) {
      const first = segmentFirst(words, at);
      const length = (segmentLast(words, at) - first + 1) * SECTOR_SIZE;
      stage.fromGrant(segmentGref(words, at), first * SECTOR_SIZE, place, length);
      place += length;
    }
  }

  /** Stages the copies of a request's buffer to its segments. */
  copyToGuest(row: number, ring: BlockRing, stage: CopyStage): void {
    const words = this.words(row);
    let at = this.at(row, ring);
    let place = this.#memory.distanceOf(this.#table.buffer[row]);
    stage.begin(row, ring.domid);
    for (let i = this.#table.segments[row]; i > 0; i--, at += SEGMENT_WORDS) {
      const first = segmentFirst(words, at);
      const length = (segmentLast(words, at) - first + 1) * SECTOR_SIZE;
      stage.toGrant(segmentGref(words, at), first * SECTOR_SIZE, place, length);
      place += length;
    }
  }

  /**
   * The same in parts: the segments from number `from` on until there are `bytes` of them. Returns the number of the
   * segment after them.
   */
  copyPart(
    row: number,
    ring: BlockRing,
    stage: CopyStage,
    direction: 'fromGuest' | 'toGuest',
    from: number,
    bytes: number,
  ): number {
    const words = this.words(row);
    const count = this.#table.segments[row];
    const start = this.at(row, ring);
    let place = this.#memory.distanceOf(this.#table.buffer[row]);
    for (let i = 0; i < from; i++) place += lengthOf(words, start + i * SEGMENT_WORDS);
    const enough = place + bytes;
    stage.begin(row, ring.domid);
    let i = from;
    for (let at = start + from * SEGMENT_WORDS; i < count && place < enough; i++, at += SEGMENT_WORDS) {
      const length = lengthOf(words, at);
      const offset = segmentFirst(words, at) * SECTOR_SIZE;
      if (direction === 'toGuest') stage.toGrant(segmentGref(words, at), offset, place, length);
      else stage.fromGrant(segmentGref(words, at), offset, place, length);
      place += length;
    }
    return i;
  }
}

/** Bytes of a segment. */
function lengthOf(words: Int32Array, at: number): number {
  return (segmentLast(words, at) - segmentFirst(words, at) + 1) * SECTOR_SIZE;
}
