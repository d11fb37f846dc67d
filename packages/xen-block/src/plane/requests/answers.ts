/**
 * The second half of a pass: copies out the data of reads, puts and pushes the responses, notifies the frontends
 * that asked for it. In come the rows in `ended`; each is answered and freed here, whatever its status.
 *
 * What must hold: read data is in the guest's pages, mapped pages are unmapped, and the journal says where the response
 * will be, before the response can be seen; a response is written whole, so that nothing of the slot is left in it.
 * What never happens: a response to a broken ring.
 */
import { BlkifOp, BlkifStatus, encodeResponse, requestIdHigh, requestIdLow } from '@xenpv/blkif';
import { accountingClass } from '../accounting/layout.js';
import { COPIED_AT_ONCE, Slices } from '../fairness/slices.js';
import { pushAnswers } from '../journal/push-answers.js';
import type { BlockRing } from '../rings/ring.js';
import { Point } from '../trace/trace-buffer.js';
import { CopyStage } from '../transfer/copy-stage.js';
import type { PageMapper } from '../transfer/page-mapper.js';
import { RowList } from './lists.js';
import type { PassParts } from './parts.js';
import { ROW_WORDS } from './table.js';
import { trace } from './trace.js';

const NONE = -1;
/** Requests that move more than this cost much more than the wake-up for them. */
const SMALL_BYTES = 32 * 1024;

type Parts = Pick<
  PassParts,
  | 'table'
  | 'lists'
  | 'memory'
  | 'sharers'
  | 'shares'
  | 'turns'
  | 'segments'
  | 'barriers'
  | 'ends'
  | 'notices'
  | 'clock'
  | 'holds'
  | 'events'
  | 'copy'
>;

export class RequestAnswers {
  readonly #table: Parts['table'];
  readonly #lists: Parts['lists'];
  readonly #sharers: Parts['sharers'];
  readonly #shares: Parts['shares'];
  readonly #turns: Parts['turns'];
  readonly #segments: Parts['segments'];
  readonly #barriers: Parts['barriers'];
  readonly #notices: Parts['notices'];
  readonly #clock: Parts['clock'];
  readonly #holds: Parts['holds'];
  readonly #events: Parts['events'];
  readonly #dataOut: CopyStage;
  /** Rings with answers to push. */
  readonly #unpushed: BlockRing[] = [];
  /** By ring index: answers that were put and not pushed, and the bytes that they moved. */
  readonly #unpushedAnswers: number[] = [];
  readonly #unpushedBytes: number[] = [];
  /** Large reads whose data is being copied. */
  readonly #slices: Slices;
  /** Rows that are answered in a later pass. */
  readonly #left = new RowList();
  readonly #response = new Int32Array(4);

  constructor(parts: Parts) {
    const { copy, memory, ends } = parts;
    this.#table = parts.table;
    this.#lists = parts.lists;
    this.#sharers = parts.sharers;
    this.#shares = parts.shares;
    this.#turns = parts.turns;
    this.#segments = parts.segments;
    this.#barriers = parts.barriers;
    this.#notices = parts.notices;
    this.#clock = parts.clock;
    this.#holds = parts.holds;
    this.#events = parts.events;
    this.#slices = new Slices('copiesOut', {
      guestOf: (row) => this.#sharers.guestOf(this.#table.ringOf(row)),
      failed: (row) => this.#table.status[row] !== BlkifStatus.okay || this.#table.ringOf(row).broken,
      segments: (row) => this.#table.segments[row],
      takeSlice: (guest) => this.#turns.takeSlice(guest),
      stage: (row, from, bytes) =>
        this.#segments.copyPart(row, this.#table.ringOf(row), this.#dataOut, 'toGuest', from, bytes),
    });
    this.#dataOut = new CopyStage(copy, memory.address, (row) => ends.grantFailed(row));
  }

  open(ring: BlockRing): void {
    this.#unpushedAnswers[ring.index] = 0;
    this.#unpushedBytes[ring.index] = 0;
  }

  /** Answers the requests that have ended, of each guest as many as its turn is long; returns how many. */
  answer(): number {
    const { ended } = this.#lists;
    if (ended.count === 0 && this.#slices.count === 0) return 0;
    const { items } = ended;
    const count = this.#sharers.alone ? ended.count : this.#pick(items, ended.count);
    for (let i = 0; i < count; i++) this.#copyRead(items[i]);
    this.#slices.stage();
    this.#dataOut.run();
    this.#clock.tick();
    let begun = 0;
    let sliced = 0;
    try {
      while (begun < count) this.#respond(items[begun++]);
    } finally {
      // Whatever happens, no request is answered twice.
      ended.drop(begun);
      sliced = this.#endSlice();
      for (let i = 0; i < this.#unpushed.length; i++) this.#push(this.#unpushed[i]);
      this.#unpushed.length = 0;
    }
    return count + sliced;
  }

  /** Answers the request whose last slice was copied. Says how many those are. */
  #endSlice(): number {
    const slices = this.#slices;
    let row = NONE;
    if (slices.count > 0) {
      row = slices.commit();
      if (row !== NONE) this.#respond(row);
    }
    this.#lists.owesSlice = slices.count > 0;
    return row === NONE ? 0 : 1;
  }

  /**
   * Puts those of the first `count` rows to the front whose turn it is; returns how many. The order of the others stays.
   * Large reads leave the list: they are answered when their data was copied in slices.
   */
  #pick(items: Int32Array, count: number): number {
    const table = this.#table;
    const left = this.#left;
    let picked = 0;
    left.clear();
    for (let i = 0; i < count; i++) {
      const row = items[i];
      const bytes = this.#toCopy(row);
      if (bytes > COPIED_AT_ONCE) this.#slices.add(row);
      else if (this.#turns.answers(this.#sharers.guestOf(table.ringOf(row)), bytes)) items[picked++] = row;
      else left.add(row);
    }
    for (let i = 0; i < left.count; i++) items[picked + i] = left.items[i];
    this.#lists.ended.count = picked + left.count;
    return picked;
  }

  /** Bytes that are to be copied to the guest. */
  #toCopy(row: number): number {
    const table = this.#table;
    if (table.buffer[row] === NONE || table.operation[row] !== BlkifOp.read || table.ringOf(row).broken) return 0;
    return table.status[row] === BlkifStatus.okay ? table.length[row] : 0;
  }

  #copyRead(row: number): void {
    if (this.#toCopy(row) > 0) this.#segments.copyToGuest(row, this.#table.ringOf(row), this.#dataOut);
  }

  #respond(row: number): void {
    const table = this.#table;
    const ring = table.ringOf(row);
    this.#account(row, ring);
    // A frontend that gets its answer may check that its pages are not mapped any more.
    if (ring.mapper) this.#unmap(row, ring.mapper, ring);
    if (!ring.broken) this.#put(row, ring);
    if (table.observed) trace(Point.pushed, table, row);
    this.#barriers.end(ring, row);
    const { index } = ring;
    this.#unpushedBytes[index] += table.length[row];
    if (this.#unpushedAnswers[index]++ === 0) this.#unpushed.push(ring);
    this.#release(row, ring);
    table.give(row);
    ring.pending--;
  }

  #unmap(row: number, mapper: PageMapper, ring: BlockRing): void {
    try {
      mapper.unmap(row);
    } catch (error) {
      this.#notices.failed(ring, error);
    }
  }

  #put(row: number, ring: BlockRing): void {
    const table = this.#table;
    const { abi, journal, back } = ring;
    if (journal) journal.answer(table.journal[row], back.responsesProduced);
    const low = requestIdLow(table.words, row * ROW_WORDS, abi);
    const high = requestIdHigh(table.words, row * ROW_WORDS, abi);
    encodeResponse(this.#response, 0, abi, low, high, table.operation[row], table.status[row]);
    back.putResponse(this.#response, 0, abi.responseWords);
  }

  #account(row: number, { counters }: BlockRing): void {
    const table = this.#table;
    counters.ended(table.span[row]);
    const clock = this.#clock;
    const timed = table.pulledAt[row] > 0;
    if (timed) clock.timed--;
    if (table.refused[row] === 1) return;
    const kind = accountingClass(table.operation[row]);
    if (table.status[row] !== BlkifStatus.okay) {
      counters.failed(kind);
      return;
    }
    counters.done(kind, table.length[row]);
    if (!timed) return;
    counters.latency(kind, clock.every, table.pulledAt[row], table.queuedAt[row], table.completedAt[row], clock.now);
  }

  /** Gives back a request's memory. */
  #release(row: number, ring: BlockRing): void {
    const table = this.#table;
    const shares = this.#shares;
    if (table.indirect[row] !== NONE) shares.give(ring, table.indirect[row]);
    if (table.buffer[row] !== NONE) shares.give(ring, table.buffer[row]);
    table.indirect[row] = NONE;
    table.buffer[row] = NONE;
  }

  #push(ring: BlockRing): void {
    const { index, back, journal, counters } = ring;
    const small = this.#unpushedBytes[index] <= this.#unpushedAnswers[index] * SMALL_BYTES;
    this.#unpushedAnswers[index] = 0;
    this.#unpushedBytes[index] = 0;
    counters.inFlight(ring.pending);
    if (!ring.broken && pushAnswers(back, journal)) {
      this.#events.notify(ring.port);
      counters.notification();
    }
    const barrier = this.#barriers.ready(ring);
    if (barrier !== NONE) this.#lists.restart.add(barrier);
    if (!ring.idle) return;
    if (this.#holds.allowed && small) this.#holds.begin(ring);
    this.#notices.idle(ring);
  }
}
