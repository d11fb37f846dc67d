import { BlkifOp, BlkifStatus } from '@xenpv/blkif';
import { BlockOp, IOV_WORDS } from '@xenpv/blockdev';
import { MAX_INDIRECT_SEGMENTS } from '../../disk/published-keys.js';
import { accountingClass } from '../counters.js';
import type { PlaneState } from '../plane-state.js';
import type { BlockRing } from '../ring.js';
import { isSecureDiscard } from './check.js';
import { segmentAt, segmentWords } from './segments.js';
import { Phase, RowList } from './table.js';
import { publishRequest, requestChannels } from './trace.js';

const NONE = -1;
const EAGAIN = -11;
const EOPNOTSUPP = -95;
/** Limits of one merged engine call. */
const MAX_MERGED_ROWS = 64;
const MAX_MERGED_SEGMENTS = 256;
const MAX_MERGED_BYTES = 1024 * 1024;
/**
 * What is larger goes alone: one call less is little beside moving it, and the kernel has to find the pages of several
 * buffers each time, where a single one is registered.
 */
const LARGEST_TO_MERGE = 64 * 1024;

/** The middle of a pass: gives requests to the storage engines and takes what they have ended. */
export class RequestDispatch {
  readonly #s: PlaneState;
  /** Rings with staged operations. */
  readonly #staged: BlockRing[] = [];
  readonly #iov = new Float64Array(MAX_INDIRECT_SEGMENTS * IOV_WORDS);
  #spare = new RowList();

  constructor(state: PlaneState) {
    this.#s = state;
  }

  /** Starts all that is ready, one submission for each ring. */
  start(): void {
    this.#startMerged();
    this.#startAgain();
    for (let i = 0; i < this.#staged.length; i++) {
      const ring = this.#staged[i];
      ring.staged = false;
      // poll() follows.
      ring.queue!.submit(true);
    }
    this.#staged.length = 0;
  }

  /** Collects what has ended already. */
  poll(): void {
    const { awake } = this.#s;
    for (let i = 0; i < awake.length; i++) {
      const { queue } = awake[i];
      if (queue !== undefined && queue.inFlight > 0) queue.poll();
    }
  }

  /** Collects what an eventfd told of: the engines that have one share it, so that asking one of them asks all. */
  pollEventfd(): void {
    const { rings } = this.#s;
    for (let i = 0; i < rings.length; i++) {
      const queue = rings[i]?.queue;
      if (queue === undefined || queue.completionFd < 0 || queue.inFlight === 0) continue;
      queue.poll();
      return;
    }
  }

  /** An engine call has ended. A merged one that failed is done again in its parts, so that only the bad part fails. */
  ended(leader: number, result: number): void {
    const s = this.#s;
    const t = s.table;
    const ring = s.ringOf(leader);
    s.wake(ring);
    if (result >= 0 && t.phase[leader] === Phase.preflush) {
      t.phase[leader] = Phase.flushed;
      s.again.add(leader);
      return;
    }
    const alone = t.next[leader] === NONE;
    for (let row = leader, next: number; row !== NONE; row = next) {
      next = t.next[row];
      t.next[row] = NONE;
      if (result < 0 && !alone) s.again.add(row);
      else this.#conclude(row, ring, result);
    }
  }

  #conclude(row: number, ring: BlockRing, result: number): void {
    const t = this.#s.table;
    const operation = t.operation[row];
    if (result === EOPNOTSUPP && operation !== BlkifOp.read && operation !== BlkifOp.write) {
      t.status[row] = BlkifStatus.eopnotsupp;
      this.#s.attention = true;
      ring.listener.unsupported(operation);
    } else if (result < 0) {
      t.status[row] = BlkifStatus.error;
    }
    this.#s.finish(row);
  }

  /** Starts what was admitted in this pass; reads or writes that continue each other become one engine call. */
  #startMerged(): void {
    const { items, count } = this.#s.ready;
    for (let i = 0; i < count; ) {
      const leader = items[i];
      const rows = this.#chain(items, i, count);
      if (rows > 1) this.#s.ringOf(leader).counters.merged(accountingClass(this.#s.table.operation[leader]), rows - 1);
      this.#begin(leader);
      i += rows;
    }
    this.#s.ready.clear();
  }

  /** Links the requests from `items[i]` on that continue each other; returns how many they are. */
  #chain(items: Int32Array, i: number, count: number): number {
    const t = this.#s.table;
    const most = Math.min(count - i, MAX_MERGED_ROWS);
    let bytes = t.length[items[i]];
    let segments = t.segments[items[i]];
    let rows = 1;
    for (; rows < most && this.#continues(items[i + rows - 1], items[i + rows]); rows++) {
      const next = items[i + rows];
      bytes += t.length[next];
      segments += t.segments[next];
      if (bytes > MAX_MERGED_BYTES || segments > MAX_MERGED_SEGMENTS) break;
      t.next[items[i + rows - 1]] = next;
    }
    return rows;
  }

  #continues(row: number, next: number): boolean {
    const t = this.#s.table;
    const operation = t.operation[row];
    return (
      t.operation[next] === operation &&
      (operation === BlkifOp.read || operation === BlkifOp.write) &&
      t.length[row] <= LARGEST_TO_MERGE &&
      t.length[next] <= LARGEST_TO_MERGE &&
      t.ring[next] === t.ring[row] &&
      t.offset[next] === t.offset[row] + t.length[row] &&
      t.status[row] === BlkifStatus.okay &&
      t.status[next] === BlkifStatus.okay
    );
  }

  #startAgain(): void {
    const s = this.#s;
    if (s.again.count === 0) return;
    const list = s.again;
    s.again = this.#spare;
    this.#spare = list;
    for (let i = 0; i < list.count; i++) this.#begin(list.items[i]);
    list.clear();
  }

  /** Gives a request, or the chain that it leads, to the engine. */
  #begin(row: number): void {
    const t = this.#s.table;
    const ring = this.#s.ringOf(row);
    if (t.status[row] !== BlkifStatus.okay) {
      this.#s.finish(row);
      return;
    }
    switch (t.operation[row]) {
      case BlkifOp.read:
        this.#push(row, ring, BlockOp.read);
        break;
      case BlkifOp.write:
        this.#push(row, ring, BlockOp.write);
        break;
      case BlkifOp.writeBarrier:
        ring.barrierParked = ring.pending > 1;
        if (!ring.barrierParked) this.#beginFlush(row, ring, BlockOp.writeFua);
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
    const t = this.#s.table;
    if (t.phase[row] === Phase.flushed) {
      this.#push(row, ring, write);
      return;
    }
    if (ring.geometry.readOnly || ring.queue === undefined) {
      this.#s.finish(row);
      return;
    }
    const length = t.length[row];
    t.length[row] = 0;
    this.#push(row, ring, BlockOp.flush);
    t.length[row] = length;
    if (length > 0 && t.phase[row] === Phase.queued) t.phase[row] = Phase.preflush;
  }

  #beginDiscard(row: number, ring: BlockRing): void {
    const { table } = this.#s;
    const secure = ring.geometry.secureDiscard && isSecureDiscard(table, row);
    if (table.length[row] === 0) this.#s.finish(row);
    else this.#push(row, ring, secure ? BlockOp.secureDiscard : BlockOp.discard);
  }

  #push(leader: number, ring: BlockRing, operation: BlockOp): void {
    const s = this.#s;
    const t = s.table;
    let count = 0;
    let bytes = 0;
    for (let row = leader; row !== NONE; row = t.next[row]) {
      bytes += t.length[row];
      t.phase[row] = Phase.queued;
      t.queuedAt[row] = s.clock.now;
      if (requestChannels.queued.hasSubscribers) publishRequest(requestChannels.queued, t, row, ring);
      if (t.length[row] > 0 && t.segments[row] > 0) count = this.#addIov(row, ring, count);
    }
    if (!ring.queue?.push(operation, leader, t.offset[leader], bytes, this.#iov, count)) {
      this.ended(leader, EAGAIN);
      return;
    }
    if (ring.staged) return;
    ring.staged = true;
    this.#staged.push(ring);
  }

  #addIov(row: number, ring: BlockRing, count: number): number {
    const s = this.#s;
    if (ring.mapper) {
      return ring.mapper.addIov(row, segmentWords(s, row), segmentAt(s, row, ring), this.#iov, count);
    }
    const at = count * IOV_WORDS;
    this.#iov[at] = 0;
    this.#iov[at + 1] = s.table.buffer[row];
    this.#iov[at + 2] = s.table.length[row];
    return count + 1;
  }
}
