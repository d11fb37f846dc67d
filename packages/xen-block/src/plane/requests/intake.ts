/**
 * The first half of a pass: takes requests off the awake rings, checks them, and brings their data to where the engine
 * needs it. In come slots that a guest may be rewriting; out go rows in `admitted` whose segments, range and memory are
 * checked and our own, or rows in `ended` that were refused.
 *
 * What must hold: a slot is copied once and only the copy is looked at; a request that finds no memory waits, and
 * all behind it wait too, in the order in which they were taken; a request that waits holds no memory and has copied
 * nothing, so that the first of them goes on when the requests before it have ended.
 * What never happens: an exception, a promise or an allocation a request.
 */
import {
  BlkifOp,
  BlkifStatus,
  indirectGref,
  requestOperation,
  SEGMENT_WORDS,
  SEGMENTS_PER_INDIRECT_PAGE,
} from '@xenpv/blkif';
import { XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import { requestChannels } from '../../diagnostics.js';
import { XenBlockError } from '../../errors.js';
import type { BlockRing } from '../rings/ring.js';
import { CopyStage } from '../transfer/copy-stage.js';
import { BadRequest } from './bad-request.js';
import { checkHeader, checkRange } from './check.js';
import { RowList } from './lists.js';
import type { PassParts } from './parts.js';
import { Phase, Recovered, ROW_WORDS } from './table.js';
import { trace } from './trace.js';

const NONE = -1;
const INDIRECT_PAGE_BYTES = SEGMENTS_PER_INDIRECT_PAGE * SEGMENT_WORDS * 4;
const READ_ONLY = { writable: false };
const WRITABLE = { writable: true };

type Parts = Pick<
  PassParts,
  'rings' | 'table' | 'lists' | 'memory' | 'segments' | 'barriers' | 'ends' | 'notices' | 'clock' | 'holds' | 'copy'
>;

export class RequestIntake {
  readonly #rings: Parts['rings'];
  readonly #table: Parts['table'];
  readonly #lists: Parts['lists'];
  readonly #pool: Parts['memory']['pool'];
  readonly #segments: Parts['segments'];
  readonly #barriers: Parts['barriers'];
  readonly #ends: Parts['ends'];
  readonly #notices: Parts['notices'];
  readonly #clock: Parts['clock'];
  readonly #holds: Parts['holds'];
  readonly #indirectIn: CopyStage;
  readonly #dataIn: CopyStage;
  /** Rows that have all their memory, in this pass. */
  readonly #complete = new RowList();
  /** How many rows of `taken` have waited already: their headers are good. */
  #waited = 0;
  /** An exception ended the last admission: what it had begun is still to be done. */
  #interrupted = false;

  constructor(parts: Parts) {
    const { ends, copy, memory } = parts;
    const failed = (row: number) => ends.grantFailed(row);
    this.#rings = parts.rings;
    this.#table = parts.table;
    this.#lists = parts.lists;
    this.#pool = memory.pool;
    this.#segments = parts.segments;
    this.#barriers = parts.barriers;
    this.#ends = ends;
    this.#notices = parts.notices;
    this.#clock = parts.clock;
    this.#holds = parts.holds;
    this.#indirectIn = new CopyStage(copy, memory.address, failed);
    this.#dataIn = new CopyStage(copy, memory.address, failed);
  }

  /** Takes all requests of the awake rings; returns how many. */
  pull(): number {
    const { awake } = this.#rings;
    let taken = 0;
    for (let i = 0; i < awake.length; i++) if (this.#barriers.mayTake(awake[i])) taken += this.#pullRing(awake[i]);
    return taken;
  }

  #pullRing(ring: BlockRing): number {
    const count = ring.back.harvest();
    if (count >= 0 && count < this.#holds.wakeAfter(ring)) return 0;
    if (count < 0) {
      ring.broken = true;
      this.#notices.broken(ring, overflow());
      return 0;
    }
    this.#holds.end(ring);
    for (let i = 0; i < count && !this.#barriers.blocks(ring); i++) this.#take(ring);
    ring.counters.pass(ring.pending);
    return count;
  }

  #take(ring: BlockRing): void {
    const table = this.#table;
    const row = table.take();
    const index = ring.back.takeRequest(table.words, row * ROW_WORDS);
    if (ring.journal) table.journal[row] = ring.journal.take(table.words, row * ROW_WORDS, index);
    this.#begin(row, ring);
  }

  /**
   * Takes the request of an entry of the ring's journal, which an earlier process took from the ring and did not answer;
   * returns its row. `recovered` is a Recovered.
   */
  adopt(ring: BlockRing, entry: number, recovered: number): number {
    const table = this.#table;
    const row = table.take();
    ring.journal?.copySlot(entry, table.words, row * ROW_WORDS);
    table.journal[row] = entry;
    table.recovered[row] = recovered;
    this.#begin(row, ring);
    return row;
  }

  #begin(row: number, ring: BlockRing): void {
    const table = this.#table;
    const clock = this.#clock;
    table.ring[row] = ring.index;
    table.phase[row] = Phase.taken;
    table.status[row] = BlkifStatus.okay;
    table.span[row] = ring.counters.began();
    // 0: not timed.
    table.pulledAt[row] = 0;
    if (clock.timing) {
      table.pulledAt[row] = clock.now;
      clock.timed++;
    }
    this.#lists.taken.add(row);
    ring.pending++;
    trace(requestChannels.pulled, table, row);
    if (requestOperation(table.words, row * ROW_WORDS) === BlkifOp.writeBarrier) this.#barriers.begin(ring, row);
  }

  /** Checks the taken requests, finds memory for them and copies in the data of writes. */
  admit(): void {
    const { taken } = this.#lists;
    const { items, count } = taken;
    if (count === 0 && !this.#interrupted) return;
    this.#interrupted = true;
    let waiting = 0;
    for (let i = 0; i < count; i++) {
      const row = items[i];
      const isNew = i >= this.#waited;
      if (isNew && this.#refusesHeader(row)) continue;
      if (waiting === 0 && this.#reserve(row)) continue;
      if (isNew) this.#table.ringOf(row).counters.starved();
      items[waiting++] = row;
    }
    taken.count = waiting;
    this.#waited = waiting;
    this.#indirectIn.run();
    const { items: rows, count: complete } = this.#complete;
    for (let i = 0; i < complete; i++) this.#prepare(rows[i]);
    this.#complete.clear();
    this.#dataIn.run();
    this.#interrupted = false;
  }

  #refusesHeader(row: number): boolean {
    const bad = checkHeader(this.#table, row, this.#table.ringOf(row).geometry);
    if (bad !== 0) this.#ends.refuse(row, bad as BadRequest);
    else if (this.#table.recovered[row] === Recovered.givenUp) this.#ends.giveUp(row);
    else return false;
    return true;
  }

  /**
   * Finds the memory of a request, all of it or none, and stages the copy of its indirect pages. False when it has to
   * wait for the memory of others: it holds nothing then, so that what is before it always finds what is free.
   */
  #reserve(row: number): boolean {
    const table = this.#table;
    const indirect = requestOperation(table.words, row * ROW_WORDS) === BlkifOp.indirect;
    if (indirect ? !this.#reserveIndirect(row) : !this.#reserveDirect(row)) return this.#cannotWait(row);
    if (table.phase[row] === Phase.ended) return true;
    if (indirect) this.#fetchSegments(row);
    table.phase[row] = Phase.complete;
    this.#complete.add(row);
    return true;
  }

  /** A request whose segments are at hand: its range is checked before it gets memory. */
  #reserveDirect(row: number): boolean {
    const table = this.#table;
    const ring = table.ringOf(row);
    const bad = checkRange(table, row, ring, this.#segments);
    if (bad !== 0) this.#ends.refuse(row, bad as BadRequest);
    if (bad !== 0 || table.segments[row] === 0 || ring.mapper) return true;
    table.buffer[row] = this.#pool.take(table.length[row], ring.guest);
    return table.buffer[row] !== NONE;
  }

  /** Memory for the segments, and for whole pages: how much of them is used is known when the segments are there. */
  #reserveIndirect(row: number): boolean {
    const table = this.#table;
    const segments = table.segments[row];
    const { mapper, guest } = table.ringOf(row);
    table.indirect[row] = this.#pool.take(segments * SEGMENT_WORDS * 4, guest);
    if (table.indirect[row] === NONE) return false;
    if (mapper) return true;
    table.buffer[row] = this.#pool.take(segments * XEN_PAGE_SIZE, guest);
    if (table.buffer[row] !== NONE) return true;
    this.#pool.give(table.indirect[row]);
    table.indirect[row] = NONE;
    return false;
  }

  /** A request that finds no memory though all of it is free would wait for ever: it is refused. Says whether it was. */
  #cannotWait(row: number): boolean {
    if (this.#pool.freeBytes < this.#pool.bytes) return false;
    this.#ends.refuse(row, BadRequest.tooManySegments);
    return true;
  }

  #fetchSegments(row: number): void {
    const table = this.#table;
    const { abi, domid, broken } = table.ringOf(row);
    if (broken) {
      table.status[row] = BlkifStatus.error;
      return;
    }
    const bytes = table.segments[row] * SEGMENT_WORDS * 4;
    this.#indirectIn.begin(row, domid);
    for (let page = 0; page * INDIRECT_PAGE_BYTES < bytes; page++) {
      const from = page * INDIRECT_PAGE_BYTES;
      const ref = indirectGref(table.words, row * ROW_WORDS, abi, page);
      this.#indirectIn.fromGrant(ref, 0, table.indirect[row] + from, Math.min(INDIRECT_PAGE_BYTES, bytes - from));
    }
  }

  /** A request has its memory and its segments: it is checked to the end, and its data is brought. */
  #prepare(row: number): void {
    const table = this.#table;
    if (table.status[row] !== BlkifStatus.okay) {
      this.#ends.finish(row);
      return;
    }
    const ring = table.ringOf(row);
    if (table.indirect[row] !== NONE) {
      const bad = checkRange(table, row, ring, this.#segments);
      if (bad !== 0) {
        this.#ends.refuse(row, bad as BadRequest);
        return;
      }
    }
    if (table.segments[row] > 0) this.#bringData(row, ring);
    table.phase[row] = Phase.admitted;
    this.#lists.admitted.add(row);
  }

  /** Makes a request's data reachable for the engine: maps its pages, or copies in what it writes. */
  #bringData(row: number, ring: BlockRing): void {
    const read = this.#table.operation[row] === BlkifOp.read;
    // Its frontend may be gone, and its grants somebody else's.
    if (ring.broken) this.#table.status[row] = BlkifStatus.error;
    else if (ring.mapper) {
      const mapped = ring.mapper.map(row, this.#segments.listOf(row, ring), read ? WRITABLE : READ_ONLY);
      if (!mapped) this.#ends.grantFailed(row);
    } else if (!read) {
      this.#segments.copyFromGuest(row, ring, this.#dataIn);
    }
  }
}

function overflow(): XenBlockError {
  const text = 'the frontend put more requests on its ring than the ring has slots';
  return new XenBlockError('EINVAL', 'serve', text);
}
