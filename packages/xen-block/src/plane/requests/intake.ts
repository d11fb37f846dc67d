/**
 * The first half of a pass: takes requests off the awake rings, checks them, and brings their data to where the engine
 * needs it. In come slots that a guest may be rewriting; out go rows in `admitted` whose segments, range and memory are
 * checked and our own, or rows in `ended` that were refused.
 *
 * What must hold: a slot is copied once and only the copy is looked at; a request that finds no memory, or whose guest
 * has had its turn, waits, and all of its ring behind it wait too, in the order in which they were taken; a request that
 * waits holds no memory and has copied nothing.
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
import { XenBlockError } from '../../errors.js';
import type { Guest } from '../fairness/sharers.js';
import { COPIED_AT_ONCE, Slices } from '../fairness/slices.js';
import type { Throttle } from '../pace/throttle.js';
import type { BlockRing } from '../rings/ring.js';
import { Point } from '../trace/trace-buffer.js';
import { CopyStage } from '../transfer/copy-stage.js';
import { BadRequest } from './bad-request.js';
import { checkHeader, checkRange, mostBytes } from './check.js';
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
  | 'rings'
  | 'table'
  | 'lists'
  | 'memory'
  | 'sharers'
  | 'shares'
  | 'waiting'
  | 'turns'
  | 'segments'
  | 'barriers'
  | 'ends'
  | 'notices'
  | 'clock'
  | 'holds'
  | 'throttled'
  | 'copy'
>;

export class RequestIntake {
  readonly #rings: Parts['rings'];
  readonly #table: Parts['table'];
  readonly #lists: Parts['lists'];
  readonly #memory: Parts['memory'];
  readonly #sharers: Parts['sharers'];
  readonly #shares: Parts['shares'];
  readonly #waiting: Parts['waiting'];
  readonly #turns: Parts['turns'];
  readonly #segments: Parts['segments'];
  readonly #barriers: Parts['barriers'];
  readonly #ends: Parts['ends'];
  readonly #notices: Parts['notices'];
  readonly #clock: Parts['clock'];
  readonly #holds: Parts['holds'];
  readonly #throttled: Parts['throttled'];
  readonly #indirectIn: CopyStage;
  readonly #dataIn: CopyStage;
  /** Large writes whose data is being copied. */
  readonly #slices: Slices;
  /** Rows that have all their memory, in this pass. */
  readonly #complete = new RowList();
  /** Which awake ring, and which guest with requests that wait, is first: another one in each pass. */
  #first = 0;
  /** An exception ended the last admission: what it had begun is still to be done. */
  #interrupted = false;

  constructor(parts: Parts) {
    const { ends, copy, memory } = parts;
    const failed = (row: number) => ends.grantFailed(row);
    this.#rings = parts.rings;
    this.#table = parts.table;
    this.#lists = parts.lists;
    this.#memory = memory;
    this.#sharers = parts.sharers;
    this.#shares = parts.shares;
    this.#waiting = parts.waiting;
    this.#turns = parts.turns;
    this.#segments = parts.segments;
    this.#barriers = parts.barriers;
    this.#ends = ends;
    this.#notices = parts.notices;
    this.#clock = parts.clock;
    this.#holds = parts.holds;
    this.#throttled = parts.throttled;
    this.#slices = new Slices('copiesIn', {
      guestOf: (row) => this.#sharers.guestOf(this.#table.ringOf(row)),
      failed: (row) => this.#table.status[row] !== BlkifStatus.okay || this.#table.ringOf(row).broken,
      segments: (row) => this.#table.segments[row],
      takeSlice: (guest) => this.#turns.takeSlice(guest),
      stage: (row, from, bytes) =>
        this.#segments.copyPart(row, this.#table.ringOf(row), this.#dataIn, 'fromGuest', from, bytes),
    });
    this.#indirectIn = new CopyStage(copy, memory.address, failed);
    this.#dataIn = new CopyStage(copy, memory.address, failed);
  }

  /** Takes the requests of the awake rings; returns how many. */
  pull(): number {
    const { awake } = this.#rings;
    let taken = 0;
    this.#turns.begin();
    this.#first++;
    for (let i = 0; i < awake.length; i++) {
      const ring = awake[(this.#first + i) % awake.length];
      if (this.#barriers.mayTake(ring)) taken += this.#pullRing(ring);
    }
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
    ring.throttle?.begin();
    const most = this.#turns.takes(this.#sharers.guestOf(ring), count);
    if (ring.throttle?.active) return this.#takeWithin(ring, ring.throttle, most);
    for (let i = 0; i < most && !this.#barriers.blocks(ring); i++) this.#take(ring);
    ring.counters.pass(ring.pending);
    return count;
  }

  /** Takes what the ring's limits allow; the rest waits in the ring. Returns how many. */
  #takeWithin(ring: BlockRing, throttle: Throttle, count: number): number {
    let taken = 0;
    while (taken < count && !this.#barriers.blocks(ring) && throttle.mayTake) {
      throttle.took(mostBytes(this.#table, this.#take(ring), ring));
      taken++;
    }
    throttle.end();
    if (taken < count && !throttle.mayTake) this.#throttled.add(ring, throttle.wait());
    if (taken > 0) ring.counters.pass(ring.pending);
    return taken;
  }

  /** Returns its row. */
  #take(ring: BlockRing): number {
    const table = this.#table;
    const row = table.take();
    const index = ring.back.takeRequest(table.words, row * ROW_WORDS);
    if (ring.journal) table.journal[row] = ring.journal.take(table.words, row * ROW_WORDS, index);
    this.#begin(row, ring);
    return row;
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
    if (table.observed) trace(Point.taken, table, row);
    if (requestOperation(table.words, row * ROW_WORDS) === BlkifOp.writeBarrier) this.#barriers.begin(ring, row);
  }

  /** Checks the taken requests, finds memory for them and copies in the data of writes. */
  admit(): void {
    const { taken } = this.#lists;
    const slices = this.#slices;
    if (taken.count === 0 && this.#waiting.total === 0 && slices.count === 0 && !this.#interrupted) return;
    this.#interrupted = true;
    for (let i = 0; i < taken.count; i++) if (!this.#refusesHeader(taken.items[i])) this.#admitNew(taken.items[i]);
    taken.clear();
    const more = this.#waiting.total > 0 && this.#admitWaiting();
    this.#indirectIn.run();
    const { items: rows, count: complete } = this.#complete;
    for (let i = 0; i < complete; i++) this.#prepare(rows[i]);
    this.#complete.clear();
    slices.stage();
    this.#dataIn.run();
    if (slices.count > 0) this.#endSlice();
    this.#lists.owesTurn = more || slices.count > 0;
    this.#interrupted = false;
  }

  #endSlice(): void {
    const row = this.#slices.commit();
    if (row === NONE) return;
    // What it has of its data may not be all.
    if (this.#table.ringOf(row).broken) this.#table.status[row] = BlkifStatus.error;
    this.#admitted(row);
  }

  #admitted(row: number): void {
    this.#table.phase[row] = Phase.admitted;
    this.#lists.admitted.add(row);
  }

  /** A request of a guest of which none waits begins before those that wait: whoever asks for little is not kept. */
  #admitNew(row: number): void {
    const ring = this.#table.ringOf(row);
    const guest = this.#sharers.guestOf(ring);
    if (guest.waiting.length === 0 && this.#turns.has(guest) && this.#begins(row, ring, guest)) return;
    this.#waiting.add(ring, row);
    if (this.#shares.isRefused(ring)) this.#waiting.starve(ring, row);
  }

  /** Each guest has its turn. Says whether one of them would go on. */
  #admitWaiting(): boolean {
    const { guests } = this.#waiting;
    const turns = this.#turns;
    for (;;) {
      let began = 0;
      let more = false;
      for (let i = 0; i < guests.length; i++) {
        const guest = guests[(this.#first + i) % guests.length];
        began += this.#admitGuest(guest);
        more = more || (!turns.has(guest) && this.#couldGoOn(guest));
      }
      if (began > 0 || !more) {
        this.#waiting.settle();
        return more;
      }
      // Everybody who waits has had more than a turn: that keeps nobody.
      turns.next();
    }
  }

  #admitGuest(guest: Guest): number {
    const { waiting } = guest;
    let began = 0;
    for (let i = 0; i < waiting.length && this.#turns.has(guest); i++) {
      began += this.#admitRing(waiting[(guest.next + i) % waiting.length], guest);
    }
    guest.next = (guest.next + 1) % waiting.length;
    return began;
  }

  #admitRing(ring: BlockRing, guest: Guest): number {
    let began = 0;
    if (!this.#shares.mayTry(ring)) return began;
    for (let row = this.#waiting.firstOf(ring); row !== NONE; row = this.#waiting.firstOf(ring)) {
      if (!this.#turns.has(guest)) break;
      if (!this.#begins(row, ring, guest)) {
        this.#waiting.starve(ring, row);
        break;
      }
      this.#shares.accepted(ring);
      this.#waiting.removeFirst(ring);
      began++;
    }
    return began;
  }

  #couldGoOn({ waiting }: Guest): boolean {
    for (let i = 0; i < waiting.length; i++) {
      if (this.#waiting.countOf(waiting[i]) > 0 && this.#shares.mayTry(waiting[i])) return true;
    }
    return false;
  }

  /** False when the request finds no memory. */
  #begins(row: number, ring: BlockRing, guest: Guest): boolean {
    if (!this.#reserve(row)) {
      this.#shares.refused(ring);
      return false;
    }
    this.#turns.spend(guest, this.#table.segments[row] * XEN_PAGE_SIZE);
    return true;
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
   * wait: it holds nothing then.
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
    table.buffer[row] = this.#shares.take(ring, table.length[row]);
    return table.buffer[row] !== NONE;
  }

  /** Memory for the segments, and for whole pages: how much of them is used is known when the segments are there. */
  #reserveIndirect(row: number): boolean {
    const table = this.#table;
    const shares = this.#shares;
    const ring = table.ringOf(row);
    const segments = table.segments[row];
    table.indirect[row] = shares.take(ring, segments * SEGMENT_WORDS * 4);
    if (table.indirect[row] === NONE) return false;
    if (ring.mapper) return true;
    table.buffer[row] = shares.take(ring, segments * XEN_PAGE_SIZE);
    if (table.buffer[row] !== NONE) return true;
    shares.give(ring, table.indirect[row]);
    table.indirect[row] = NONE;
    return false;
  }

  /** A request that finds no memory though all of it is free would wait for ever: it is refused. Says whether it was. */
  #cannotWait(row: number): boolean {
    if (!this.#shares.unused) return false;
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
      this.#indirectIn.fromGrant(
        ref,
        0,
        this.#memory.distanceOf(table.indirect[row]) + from,
        Math.min(INDIRECT_PAGE_BYTES, bytes - from),
      );
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
      ring.throttle?.giveBack(table.segments[row] * XEN_PAGE_SIZE - table.length[row]);
    }
    if (table.segments[row] > 0 && !this.#bringData(row, ring)) return;
    this.#admitted(row);
  }

  /**
   * Makes a request's data reachable for the engine: maps its pages, or copies in what it writes. False when that goes on
   * in later passes.
   */
  #bringData(row: number, ring: BlockRing): boolean {
    const table = this.#table;
    const read = table.operation[row] === BlkifOp.read;
    // Its frontend may be gone, and its grants somebody else's.
    if (ring.broken) table.status[row] = BlkifStatus.error;
    else if (ring.mapper) {
      const mapped = ring.mapper.map(row, this.#segments.listOf(row, ring), read ? WRITABLE : READ_ONLY);
      if (!mapped) this.#ends.grantFailed(row);
    } else if (!read) {
      if (table.length[row] > COPIED_AT_ONCE && !this.#sharers.alone) {
        this.#slices.add(row);
        return false;
      }
      this.#segments.copyFromGuest(row, ring, this.#dataIn);
    }
    return true;
  }
}

function overflow(): XenBlockError {
  const text = 'the frontend put more requests on its ring than the ring has slots';
  return new XenBlockError('EINVAL', 'serve', text);
}
