import {
  BlkifOp,
  BlkifStatus,
  indirectGref,
  requestOperation,
  SEGMENT_WORDS,
  SEGMENTS_PER_INDIRECT_PAGE,
} from '@xenpv/blkif';
import { XenBlockError } from '../../errors.js';
import type { PlaneState } from '../plane-state.js';
import type { BlockRing } from '../ring.js';
import { type CopyFunction, CopyStage } from '../transfer/copy-stage.js';
import type { BadRequest } from './bad-request.js';
import { checkHeader, checkRange } from './check.js';
import { copySegments, segmentAt, segmentWords } from './segments.js';
import { Phase, ROW_WORDS } from './table.js';
import { publishRequest, requestChannels } from './trace.js';

const NONE = -1;
const COPY_BATCH = 2048;
const INDIRECT_PAGE_BYTES = SEGMENTS_PER_INDIRECT_PAGE * SEGMENT_WORDS * 4;

/** The first half of a pass: takes requests off the rings, checks them, and gets their data to where it is needed. */
export class RequestIntake {
  readonly #s: PlaneState;
  readonly #indirectIn: CopyStage;
  readonly #copyIn: CopyStage;

  constructor(state: PlaneState, copy: CopyFunction) {
    const failed = (row: number) => state.grantFailed(row);
    this.#s = state;
    this.#indirectIn = new CopyStage(copy, COPY_BATCH, state.memoryAddress, failed);
    this.#copyIn = new CopyStage(copy, COPY_BATCH, state.memoryAddress, failed);
  }

  /** Takes all that the awake rings have; returns how many requests. */
  pull(): number {
    const { awake } = this.#s;
    let taken = 0;
    for (let i = 0; i < awake.length; i++) if (awake[i].open) taken += this.#pullRing(awake[i]);
    return taken;
  }

  #pullRing(ring: BlockRing): number {
    const count = ring.back.harvest();
    if (count >= 0 && count < ring.wanted) return 0;
    if (count < 0) {
      ring.broken = true;
      this.#s.attention = true;
      ring.listener.broken(overflow());
      return 0;
    }
    ring.endHold(false);
    // Nothing is taken behind a barrier.
    for (let i = 0; i < count && ring.barrier === NONE; i++) this.#take(ring);
    ring.counters.pass(ring.pending);
    return count;
  }

  #take(ring: BlockRing): void {
    const t = this.#s.table;
    const row = t.take();
    const index = ring.back.takeRequest(t.words, row * ROW_WORDS);
    if (ring.journal) t.journal[row] = ring.journal.take(t.words, row * ROW_WORDS, index);
    this.#begin(row, ring);
  }

  /** Takes up what an earlier process took from the ring and did not answer: `entries` of its journal. */
  recover(ring: BlockRing, entries: Int32Array): void {
    const t = this.#s.table;
    for (const entry of entries) {
      const row = t.take();
      ring.journal!.copySlot(entry, t.words, row * ROW_WORDS);
      t.journal[row] = entry;
      this.#begin(row, ring);
    }
  }

  #begin(row: number, ring: BlockRing): void {
    const s = this.#s;
    const t = s.table;
    t.ring[row] = ring.index;
    t.phase[row] = Phase.pulled;
    t.status[row] = BlkifStatus.okay;
    // 0: not timed.
    t.pulledAt[row] = 0;
    if (s.clock.timing) {
      t.pulledAt[row] = s.clock.now;
      s.clock.timed++;
    }
    s.fresh.add(row);
    ring.pending++;
    if (requestChannels.pulled.hasSubscribers) publishRequest(requestChannels.pulled, t, row, ring);
    if (requestOperation(t.words, row * ROW_WORDS) !== BlkifOp.writeBarrier) return;
    ring.barrier = row;
    ring.barrierParked = false;
  }

  /** Checks what was taken, finds memory for it and copies in what it writes. What finds none waits, in order. */
  admit(): void {
    const { fresh } = this.#s;
    const { items, count } = fresh;
    if (count === 0) return;
    for (let i = 0; i < count; i++) this.#inspect(items[i]);
    this.#indirectIn.run();
    let kept = 0;
    for (let i = 0; i < count; i++) if (!this.#prepare(items[i], kept > 0)) items[kept++] = items[i];
    fresh.count = kept;
    this.#copyIn.run();
  }

  #inspect(row: number): void {
    const t = this.#s.table;
    const ring = this.#s.ringOf(row);
    const bad = checkHeader(t, row, ring.geometry);
    if (bad !== 0) {
      this.#s.refuse(row, bad as BadRequest);
      return;
    }
    const indirect = requestOperation(t.words, row * ROW_WORDS) === BlkifOp.indirect;
    if (!indirect || this.#fetchSegments(row, ring)) t.phase[row] = Phase.complete;
  }

  /** Stages the copy of a request's indirect pages. False when there is no memory for them now. */
  #fetchSegments(row: number, ring: BlockRing): boolean {
    const s = this.#s;
    const bytes = s.table.segments[row] * SEGMENT_WORDS * 4;
    const at = s.pool.take(bytes);
    if (at === NONE) return false;
    s.table.indirect[row] = at;
    for (let page = 0; page * INDIRECT_PAGE_BYTES < bytes; page++) {
      const from = page * INDIRECT_PAGE_BYTES;
      const ref = indirectGref(s.table.words, row * ROW_WORDS, ring.abi, page);
      const length = Math.min(INDIRECT_PAGE_BYTES, bytes - from);
      this.#indirectIn.fromGrant(row, ring.domid, ref, 0, at + from, length);
    }
    return true;
  }

  /** False when the request has to wait for memory. */
  #prepare(row: number, starving: boolean): boolean {
    const s = this.#s;
    const t = s.table;
    if (t.phase[row] === Phase.done) return true;
    if (starving || t.phase[row] === Phase.pulled) return this.#wait(row);
    if (t.status[row] !== BlkifStatus.okay) {
      s.finish(row);
      return true;
    }
    const ring = s.ringOf(row);
    const bad = checkRange(t, row, ring.abi, ring.geometry, segmentWords(s, row), segmentAt(s, row, ring));
    if (bad !== 0) {
      s.refuse(row, bad as BadRequest);
      return true;
    }
    if (t.segments[row] > 0 && !this.#takeData(row, ring)) return this.#wait(row);
    t.phase[row] = Phase.ready;
    s.ready.add(row);
    return true;
  }

  /** Makes a request's data reachable for the engine: maps its pages, or finds memory and copies in what it writes. */
  #takeData(row: number, ring: BlockRing): boolean {
    const s = this.#s;
    const t = s.table;
    const read = t.operation[row] === BlkifOp.read;
    if (ring.mapper) {
      const words = segmentWords(s, row);
      const mapped = ring.mapper.map(row, words, segmentAt(s, row, ring), t.segments[row], read);
      if (!mapped) s.grantFailed(row);
      return true;
    }
    t.buffer[row] = s.pool.take(t.length[row]);
    if (t.buffer[row] === NONE) return false;
    if (!read) copySegments(s, row, ring, this.#copyIn, false);
    return true;
  }

  /** Gives back what a waiting request holds, so that those before it can end; it starts over when its turn comes. */
  #wait(row: number): false {
    const t = this.#s.table;
    this.#s.giveIndirect(row);
    if (t.phase[row] === Phase.complete) this.#s.ringOf(row).counters.starved();
    t.phase[row] = Phase.pulled;
    return false;
  }
}

function overflow(): XenBlockError {
  const text = 'the frontend put more requests on its ring than the ring has slots';
  return new XenBlockError('EINVAL', 'serve', text);
}
