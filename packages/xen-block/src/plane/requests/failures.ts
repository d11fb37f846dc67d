import { constants } from 'node:os';
import { BlkifOp, BlkifStatus } from '@xenpv/blkif';
import { accountingClass } from '../accounting/layout.js';
import type { MemoryShares } from '../fairness/memory-shares.js';
import type { Clock } from '../pace/clock.js';
import type { Barriers } from '../rings/barriers.js';
import type { BlockRing } from '../rings/ring.js';
import type { StorageFailure } from '../rings/ring-options.js';
import type { RequestEnds } from './ends.js';
import type { PassLists } from './lists.js';
import type { Notices } from './notices.js';
import { Phase, type RequestTable } from './table.js';

const NONE = -1;
const { ENOSPC, EDQUOT } = constants.errno;
/** EOWNERDEAD: what was acknowledged and not flushed is gone. Linux's number. */
const DATA_LOST = 130;

interface Parts {
  readonly table: RequestTable;
  readonly lists: PassLists;
  readonly shares: MemoryShares;
  readonly barriers: Barriers;
  readonly ends: RequestEnds;
  readonly notices: Notices;
  readonly clock: Clock;
}

/**
 * What becomes of the requests that the storage fails: they are counted and told, then answered with ERROR, or, on a
 * disk that is to stop, kept until it is resumed.
 *
 * A request that is kept has nothing but its row and its entry in the journal: its data is fetched anew when it is done
 * again, as it would be by the next process. So a stopped disk takes no memory from the others, and its image can be
 * changed. A barrier that waits for a kept request is kept with it.
 */
export class StorageFailures {
  readonly #table: RequestTable;
  readonly #lists: PassLists;
  readonly #shares: MemoryShares;
  readonly #barriers: Barriers;
  readonly #ends: RequestEnds;
  readonly #notices: Notices;
  readonly #clock: Clock;

  constructor({ table, lists, shares, barriers, ends, notices, clock }: Parts) {
    this.#table = table;
    this.#lists = lists;
    this.#shares = shares;
    this.#barriers = barriers;
    this.#ends = ends;
    this.#notices = notices;
    this.#clock = clock;
  }

  /** The storage failed a request; `result` is its negative errno. */
  failed(row: number, result: number): void {
    const table = this.#table;
    const ring = table.ringOf(row);
    const errno = -result;
    const failure = { operation: table.operation[row], errno, offset: table.offset[row], length: table.length[row] };
    ring.counters.storageError(accountingClass(table.operation[row]), errno);
    this.#notices.storageError(ring, failure);
    if (!this.#mayKeep(row, ring, errno)) {
      table.status[row] = BlkifStatus.error;
      this.#ends.finish(row);
      return;
    }
    this.#stop(ring, failure);
    this.#keep(row, ring);
  }

  /** A barrier has to wait for the requests before it: with them, if they are kept. */
  barrierWaits(ring: BlockRing): void {
    if (ring.kept.length > 0) this.#keepBarrier(ring);
  }

  /** Does the kept requests again, unless the ring is stopped, or paused, when nothing may start. A pass must follow. */
  restart(ring: BlockRing): void {
    if (ring.stopped || ring.paused) return;
    const table = this.#table;
    for (const row of ring.kept) {
      table.phase[row] = Phase.taken;
      table.span[row] = ring.counters.began();
      this.#lists.taken.add(row);
    }
    this.#empty(ring);
  }

  /** Nothing is kept from now on: the kept requests end with ERROR. A pass must follow. */
  giveUp(ring: BlockRing): void {
    const table = this.#table;
    ring.onError = 'report';
    for (const row of ring.kept) {
      table.span[row] = ring.counters.began();
      table.status[row] = BlkifStatus.error;
      this.#ends.finish(row);
    }
    this.#empty(ring);
  }

  /** The ring goes, and leaves the kept requests to the next process. */
  leave(ring: BlockRing): void {
    for (const row of ring.kept) {
      this.#barriers.end(ring, row);
      this.#table.give(row);
    }
    ring.pending -= ring.kept.length;
    this.#empty(ring);
  }

  #mayKeep(row: number, ring: BlockRing, errno: number): boolean {
    if (ring.onError === 'report' || ring.broken || ring.queue === undefined) return false;
    if (errno === DATA_LOST || !this.#mayRepeat(row, ring)) return false;
    return ring.onError === 'stop' || errno === ENOSPC || errno === EDQUOT;
  }

  /** A flush that would succeed the next time though what it should have covered is gone must fail. */
  #mayRepeat(row: number, { repeatableFlush }: BlockRing): boolean {
    const operation = this.#table.operation[row];
    const flushes = operation === BlkifOp.flushDiskcache || operation === BlkifOp.writeBarrier;
    return !flushes || repeatableFlush;
  }

  #stop(ring: BlockRing, failure: StorageFailure): void {
    if (ring.stopped) return;
    ring.stopped = true;
    this.#notices.stopped(ring, failure);
  }

  #keep(row: number, ring: BlockRing): void {
    const table = this.#table;
    this.#release(row, ring);
    table.phase[row] = Phase.kept;
    ring.counters.ended(table.span[row]);
    ring.kept.push(row);
    ring.counters.kept(ring.kept.length);
    this.#keepBarrier(ring);
    if (ring.idle) this.#notices.idle(ring);
  }

  #keepBarrier(ring: BlockRing): void {
    const barrier = this.#barriers.takeWaiting(ring);
    if (barrier !== NONE) this.#keep(barrier, ring);
  }

  #release(row: number, ring: BlockRing): void {
    const table = this.#table;
    ring.mapper?.unmap(row);
    if (table.indirect[row] !== NONE) this.#shares.give(ring, table.indirect[row]);
    if (table.buffer[row] !== NONE) this.#shares.give(ring, table.buffer[row]);
    table.indirect[row] = NONE;
    table.buffer[row] = NONE;
    // The time that it is kept says nothing of the storage.
    if (table.pulledAt[row] > 0) this.#clock.timed--;
    table.pulledAt[row] = 0;
  }

  #empty(ring: BlockRing): void {
    ring.kept.length = 0;
    ring.counters.kept(0);
  }
}
