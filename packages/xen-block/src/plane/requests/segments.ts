import {
  MAX_INDIRECT_PAGES,
  SECTOR_SIZE,
  SEGMENT_WORDS,
  SEGMENTS_PER_INDIRECT_PAGE,
  segmentFirst,
  segmentGref,
  segmentLast,
} from '@xenpv/blkif';
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
  readonly #found: { -readonly [K in keyof SegmentList]: SegmentList[K] };

  constructor(table: RequestTable, memory: DataMemory) {
    this.#table = table;
    this.#memory = memory;
    this.#found = { words: memory.words, at: 0, count: 0 };
  }

  /** The segments of a row. The object is the same each time: to be used before the next call. */
  of(row: number): SegmentList {
    const table = this.#table;
    const found = this.#found;
    const indirect = table.indirect[row];
    found.count = table.segments[row];
    if (indirect === NONE) {
      found.words = table.words;
      found.at = row * ROW_WORDS + table.ringOf(row).abi.segmentsWord;
    } else {
      found.words = this.#memory.words;
      found.at = indirect >> 2;
    }
    return found;
  }

  /** Stages the copies of a request's segments to its buffer, in which they follow each other. */
  copyFromGuest(row: number, stage: CopyStage): void {
    const { words, at, count } = this.of(row);
    stage.begin(row, this.#table.ringOf(row).domid);
    let place = this.#table.buffer[row];
    for (let i = 0, word = at; i < count; i++, word += SEGMENT_WORDS) {
      const length = segmentBytes(words, word);
      stage.fromGrant(segmentGref(words, word), segmentFirst(words, word) * SECTOR_SIZE, place, length);
      place += length;
    }
  }

  /** Stages the copies of a request's buffer to its segments. */
  copyToGuest(row: number, stage: CopyStage): void {
    const { words, at, count } = this.of(row);
    stage.begin(row, this.#table.ringOf(row).domid);
    let place = this.#table.buffer[row];
    for (let i = 0, word = at; i < count; i++, word += SEGMENT_WORDS) {
      const length = segmentBytes(words, word);
      stage.toGrant(segmentGref(words, word), segmentFirst(words, word) * SECTOR_SIZE, place, length);
      place += length;
    }
  }
}

function segmentBytes(words: Int32Array, at: number): number {
  return (segmentLast(words, at) - segmentFirst(words, at) + 1) * SECTOR_SIZE;
}
