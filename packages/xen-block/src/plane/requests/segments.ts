import { SECTOR_SIZE, SEGMENT_WORDS, segmentFirst, segmentGref, segmentLast } from '@xenpv/blkif';
import type { PlaneState } from '../plane-state.js';
import type { BlockRing } from '../ring.js';
import type { CopyStage } from '../transfer/copy-stage.js';
import { ROW_WORDS } from './table.js';

const NONE = -1;

/** The array that has our private copy of a request's segments: its row, or the copy of its indirect pages. */
export function segmentWords(state: PlaneState, row: number): Int32Array {
  return state.table.indirect[row] === NONE ? state.table.words : state.memoryWords;
}

/** The word in it where they begin. */
export function segmentAt(state: PlaneState, row: number, ring: BlockRing): number {
  const indirect = state.table.indirect[row];
  return indirect === NONE ? row * ROW_WORDS + ring.abi.segmentsWord : indirect >> 2;
}

/** Stages the copies between a request's segments and its buffer, in which they follow each other. */
export function copySegments(
  state: PlaneState,
  row: number,
  ring: BlockRing,
  stage: CopyStage,
  toGuest: boolean,
): void {
  const words = segmentWords(state, row);
  let at = segmentAt(state, row, ring);
  let place = state.table.buffer[row];
  for (let i = state.table.segments[row]; i > 0; i--, at += SEGMENT_WORDS) {
    const first = segmentFirst(words, at);
    const length = (segmentLast(words, at) - first + 1) * SECTOR_SIZE;
    const ref = segmentGref(words, at);
    if (toGuest) stage.toGrant(row, ring.domid, ref, first * SECTOR_SIZE, place, length);
    else stage.fromGrant(row, ring.domid, ref, first * SECTOR_SIZE, place, length);
    place += length;
  }
}
