/**
 * The middle of a pass: gives requests to the storage engines and takes their completions. In come rows in `admitted`
 * and `restart`; out go rows in `ended`, or, after a flush that goes before a write and after a merged call that
 * failed, in `restart` once more.
 *
 * What must hold: an engine call is known by the row that leads its chain and the number of the call, and each call ends
 * exactly once: whatever else an engine says is counted and ignored. A call ends well only with the length that was asked
 * for. A ring's operations are submitted in the pass that staged them, and a poll of that ring's engine follows.
 * What never happens: a call that is larger than the limits of a merge, unless one request alone is.
 */
import { BlkifOp, BlkifStatus } from '@xenpv/blkif';
import { BlockOp, type BlockQueue, exactResult, IOV_WORDS } from '@xenpv/blockdev';
import { Errno } from '@xenpv/xen-sys';
import { accountingClass } from '../accounting/layout.js';
import type { BlockRing } from '../rings/ring.js';
import { Point } from '../trace/trace-buffer.js';
import { isSecureDiscard } from './check.js';
import type { PassParts } from './parts.js';
import { MAX_INDIRECT_SEGMENTS } from './segments.js';
import { Phase } from './table.js';
import { trace } from './trace.js';

const NONE = -1;
/** Of a call's tag the low bits are the row that leads it; the others are the last ones of the call's number. */
const ROW_BITS = 22;
const ROW_MASK = 2 ** ROW_BITS - 1;
const CALL_MASK = 2 ** (31 - ROW_BITS) - 1;
/** Limits of one merged engine call. */
const MAX_MERGED_ROWS = 64;
const MAX_MERGED_SEGMENTS = 256;
const MAX_MERGED_BYTES = 1024 * 1024;
/**
 * A larger request goes alone: one call less is little beside moving it, and the kernel has to find the pages of several
 * buffers each time, where a single one is registered.
 */
const LARGEST_TO_MERGE = 64 * 1024;

type Parts = Pick<
  PassParts,
  'rings' | 'table' | 'lists' | 'memory' | 'segments' | 'barriers' | 'ends' | 'failures' | 'notices' | 'clock'
>;

export class RequestDispatch {
  readonly #rings: Parts['rings'];
  readonly #table: Parts['table'];
  readonly #lists: Parts['lists'];
  readonly #memory: Parts['memory'];
  readonly #segments: Parts['segments'];
  readonly #barriers: Parts['barriers'];
  readonly #ends: Parts['ends'];
  readonly #failures: Parts['failures'];
  readonly #notices: Parts['notices'];
  readonly #clock: Parts['clock'];
  /** Rings with operations that are staged and not submitted. */
  readonly #unsubmitted: BlockRing[] = [];
  /** By ring index: whether it is one of them. */
  readonly #hasUnsubmitted: boolean[] = [];
  #calls = 0;
  readonly #iov = new Float64Array(MAX_INDIRECT_SEGMENTS * IOV_WORDS);

  constructor(parts: Parts) {
    this.#rings = parts.rings;
    this.#table = parts.table;
    this.#lists = parts.lists;
    this.#memory = parts.memory;
    this.#segments = parts.segments;
    this.#barriers = parts.barriers;
    this.#ends = parts.ends;
    this.#failures = parts.failures;
    this.#notices = parts.notices;
    this.#clock = parts.clock;
  }

  open(ring: BlockRing): void {
    this.#hasUnsubmitted[ring.index] = false;
  }

  /** Starts all requests that can be, with one submission for each ring. */
  start(): void {
    this.#startAdmitted();
    this.#startAgain();
    const rings = this.#unsubmitted;
    let left = 0;
    for (let i = 0; i < rings.length; i++) if (!this.#submit(rings[i])) rings[left++] = rings[i];
    rings.length = left;
  }

  /** False when the engine threw: what is staged is submitted in the pass that follows a failure. */
  #submit(ring: BlockRing): boolean {
    try {
      // poll() follows.
      ring.queue?.submit(true);
    } catch (error) {
      this.#notices.failed(ring, error);
      return false;
    }
    this.#hasUnsubmitted[ring.index] = false;
    return true;
  }

  /** Collects what has ended already. */
  poll(): void {
    const { awake } = this.#rings;
    for (let i = 0; i < awake.length; i++) {
      const { queue } = awake[i];
      if (queue !== undefined && queue.inFlight > 0) this.#poll(awake[i], queue);
    }
  }

  #poll(ring: BlockRing, queue: BlockQueue): void {
    try {
      queue.poll();
    } catch (error) {
      this.#notices.failed(ring, error);
    }
  }

  /** Collects the completions that an eventfd told of: engines that have one share it, so that asking one asks all. */
  pollEventfd(): void {
    const { all } = this.#rings;
    for (let i = 0; i < all.length; i++) {
      const ring = all[i];
      const queue = ring?.queue;
      if (ring === undefined || queue === undefined || queue.completionFd < 0 || queue.inFlight === 0) continue;
      this.#poll(ring, queue);
      return;
    }
  }

  /** The row that leads the call of this tag, which has ended; or -1: there is no such call, or it has ended before. */
  endOf(tag: number): number {
    const table = this.#table;
    const row = tag & ROW_MASK;
    if (table.call[row] === tag) {
      table.call[row] = NONE;
      return row;
    }
    if (row < table.capacity) this.#rings.all[table.ring[row]]?.counters.inexact();
    return NONE;
  }

  /** An engine call has ended, and what its engine says of it is `said`. */
  ended(leader: number, said: number): void {
    const result = exactResult(this.#expected(leader), said);
    if (result !== said) this.#table.ringOf(leader).counters.inexact();
    this.#concludeAll(leader, result);
  }

  /** Bytes that a call moves. */
  #expected(leader: number): number {
    const table = this.#table;
    if (table.phase[leader] === Phase.flushing || table.operation[leader] === BlkifOp.discard) return 0;
    let bytes = 0;
    for (let row = leader; row !== NONE; row = table.next[row]) bytes += table.length[row];
    return bytes;
  }

  /** A merged call that failed is done again in its parts, so that only the bad part fails. */
  #concludeAll(leader: number, result: number): void {
    const table = this.#table;
    const lists = this.#lists;
    if (result >= 0 && table.phase[leader] === Phase.flushing) {
      table.phase[leader] = Phase.flushed;
      lists.restart.add(leader);
      return;
    }
    const alone = table.next[leader] === NONE;
    for (let row = leader, next: number; row !== NONE; row = next) {
      next = table.next[row];
      table.next[row] = NONE;
      if (result < 0 && !alone) lists.restart.add(row);
      else this.#conclude(row, result);
    }
  }

  #conclude(row: number, result: number): void {
    const table = this.#table;
    const operation = table.operation[row];
    if (result === Errno.EOPNOTSUPP && operation !== BlkifOp.read && operation !== BlkifOp.write) {
      table.status[row] = BlkifStatus.eopnotsupp;
      this.#notices.unsupported(table.ringOf(row), operation);
    } else if (result < 0) {
      this.#failures.failed(row, result);
      return;
    }
    this.#ends.finish(row);
  }

  /** Starts the admitted requests; reads or writes that continue each other become one engine call. */
  #startAdmitted(): void {
    const table = this.#table;
    const { admitted } = this.#lists;
    const { items, count } = admitted;
    for (let i = 0; i < count; ) {
      const leader = items[i];
      const rows = this.#chain(items, i, count);
      if (rows > 1) table.ringOf(leader).counters.merged(accountingClass(table.operation[leader]), rows - 1);
      this.#begin(leader);
      i += rows;
    }
    admitted.clear();
  }

  /** Links the requests from `items[i]` on that continue each other; returns how many they are. */
  #chain(items: Int32Array, i: number, count: number): number {
    const table = this.#table;
    const most = Math.min(count - i, MAX_MERGED_ROWS);
    let bytes = table.length[items[i]];
    let segments = table.segments[items[i]];
    let rows = 1;
    for (; rows < most && this.#continues(items[i + rows - 1], items[i + rows]); rows++) {
      const next = items[i + rows];
      bytes += table.length[next];
      segments += table.segments[next];
      if (bytes > MAX_MERGED_BYTES || segments > MAX_MERGED_SEGMENTS) break;
      table.next[items[i + rows - 1]] = next;
    }
    return rows;
  }

  #continues(row: number, next: number): boolean {
    const table = this.#table;
    const operation = table.operation[row];
    return (
      table.operation[next] === operation &&
      (operation === BlkifOp.read || operation === BlkifOp.write) &&
      table.length[row] <= LARGEST_TO_MERGE &&
      table.length[next] <= LARGEST_TO_MERGE &&
      table.ring[next] === table.ring[row] &&
      table.offset[next] === table.offset[row] + table.length[row] &&
      table.status[row] === BlkifStatus.okay &&
      table.status[next] === BlkifStatus.okay
    );
  }

  #startAgain(): void {
    const lists = this.#lists;
    if (lists.restart.count === 0) return;
    const list = lists.takeRestart();
    for (let i = 0; i < list.count; i++) {
      const row = list.items[i];
      // Of a frontend that is gone nothing more is begun: nobody waits for it, and the image may be closed.
      if (this.#table.ringOf(row).broken) this.#table.status[row] = BlkifStatus.error;
      this.#begin(row);
    }
    list.clear();
  }

  /** Gives a request, or the chain that it leads, to the engine. */
  #begin(row: number): void {
    const table = this.#table;
    const ring = table.ringOf(row);
    if (table.status[row] !== BlkifStatus.okay) {
      this.#ends.finish(row);
      return;
    }
    switch (table.operation[row]) {
      case BlkifOp.read:
        this.#push(row, ring, BlockOp.read);
        break;
      case BlkifOp.write:
        this.#push(row, ring, BlockOp.write);
        break;
      case BlkifOp.writeBarrier:
        if (this.#barriers.mustWait(ring)) this.#failures.barrierWaits(ring);
        else this.#beginFlush(row, ring, BlockOp.writeFua);
        break;
      case BlkifOp.flushDiskcache:
        this.#beginFlush(row, ring, BlockOp.write);
        break;
      default:
        this.#beginDiscard(row, ring);
    }
  }

  /** A flush, then the write of its data, if it has any. */
  #beginFlush(row: number, ring: BlockRing, write: BlockOp): void {
    const table = this.#table;
    if (table.phase[row] === Phase.flushed) {
      this.#push(row, ring, write);
      return;
    }
    if (ring.geometry.readOnly || ring.queue === undefined) {
      this.#ends.finish(row);
      return;
    }
    const length = table.length[row];
    table.length[row] = 0;
    this.#push(row, ring, BlockOp.flush);
    table.length[row] = length;
    if (length > 0 && table.phase[row] === Phase.queued) table.phase[row] = Phase.flushing;
  }

  #beginDiscard(row: number, ring: BlockRing): void {
    const secure = ring.geometry.secureDiscard && isSecureDiscard(this.#table, row);
    if (this.#table.length[row] === 0) this.#ends.finish(row);
    else this.#push(row, ring, secure ? BlockOp.secureDiscard : BlockOp.discard);
  }

  #push(leader: number, ring: BlockRing, operation: BlockOp): void {
    const table = this.#table;
    const { now } = this.#clock;
    let count = 0;
    let bytes = 0;
    for (let row = leader; row !== NONE; row = table.next[row]) {
      bytes += table.length[row];
      table.phase[row] = Phase.queued;
      table.queuedAt[row] = now;
      if (table.observed) trace(Point.storage, table, row);
      if (table.length[row] > 0 && table.segments[row] > 0) count = this.#addIov(row, ring, count);
    }
    if (!this.#stage(leader, ring, operation, bytes, count)) {
      table.call[leader] = NONE;
      this.#concludeAll(leader, Errno.EAGAIN);
      return;
    }
    if (this.#hasUnsubmitted[ring.index]) return;
    // The ring may sleep, when the request has waited for memory, and only the engines of awake rings are polled.
    this.#rings.wake(ring);
    this.#hasUnsubmitted[ring.index] = true;
    this.#unsubmitted.push(ring);
  }

  /** Gives the engine a call, with what is in the scatter list. False when it does not take it. */
  #stage(leader: number, ring: BlockRing, operation: BlockOp, bytes: number, count: number): boolean {
    const tag = ((this.#calls++ & CALL_MASK) << ROW_BITS) | leader;
    this.#table.call[leader] = tag;
    try {
      return ring.queue?.push(operation, tag, this.#table.offset[leader], bytes, this.#iov, count) ?? false;
    } catch (error) {
      this.#notices.failed(ring, error);
      return false;
    }
  }

  #addIov(row: number, ring: BlockRing, count: number): number {
    if (ring.mapper) return ring.mapper.addIov(row, this.#segments.listOf(row, ring), this.#iov, count);
    const at = count * IOV_WORDS;
    const place = this.#table.buffer[row];
    const reserve = this.#memory.isReserve(place);
    this.#iov[at] = reserve ? this.#reserveRegion(ring) : 0;
    this.#iov[at + 1] = reserve ? this.#memory.offsetInReserve(place) : place;
    this.#iov[at + 2] = this.#table.length[row];
    return count + 1;
  }

  /** -1, which no engine knows, of an image that is not there. */
  #reserveRegion(ring: BlockRing): number {
    ring.reserveRegion ??= ring.queue?.addRegion(this.#memory.reserveBuffer) ?? NONE;
    return ring.reserveRegion;
  }
}
