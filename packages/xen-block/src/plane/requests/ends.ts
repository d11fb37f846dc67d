import { BlkifStatus, requestSector } from '@xenpv/blkif';
import { accountingClass } from '../accounting/layout.js';
import type { Clock } from '../pace/clock.js';
import type { RingSet } from '../rings/ring-set.js';
import { Point } from '../trace/trace-buffer.js';
import { BadRequest, badRequestStatus } from './bad-request.js';
import type { PassLists } from './lists.js';
import type { Notices } from './notices.js';
import { Phase, type RequestTable, ROW_WORDS } from './table.js';
import { trace } from './trace.js';

interface Parts {
  readonly rings: RingSet;
  readonly table: RequestTable;
  readonly lists: PassLists;
  readonly clock: Clock;
  readonly notices: Notices;
}

/** How a request ends: each row that was taken comes here exactly once, on its way to the answers. */
export class RequestEnds {
  readonly #rings: RingSet;
  readonly #table: RequestTable;
  readonly #lists: PassLists;
  readonly #clock: Clock;
  readonly #notices: Notices;

  constructor({ rings, table, lists, clock, notices }: Parts) {
    this.#rings = rings;
    this.#table = table;
    this.#lists = lists;
    this.#clock = clock;
    this.#notices = notices;
  }

  /**
   * A request has ended, well or not: its status is set. Its ring may sleep, when the request has waited for memory, and
   * what is behind a barrier is only looked at when it is awake.
   */
  finish(row: number): void {
    this.#rings.wake(this.#table.ringOf(row));
    this.#table.phase[row] = Phase.ended;
    this.#table.completedAt[row] = this.#clock.now;
    this.#lists.ended.add(row);
    if (this.#table.observed) trace(Point.done, this.#table, row);
  }

  /** Ends a request before anything was done for it. */
  refuse(row: number, reason: BadRequest): void {
    const table = this.#table;
    const ring = table.ringOf(row);
    this.#notices.badRequest(ring, reason);
    if (reason === BadRequest.unknownOperation) ring.counters.unknown();
    else ring.counters.invalid(accountingClass(table.operation[row]));
    table.status[row] = badRequestStatus(reason);
    table.length[row] = 0;
    table.refused[row] = 1;
    this.finish(row);
  }

  /** Ends a request that has killed earlier processes. */
  giveUp(row: number): void {
    const table = this.#table;
    const sector = requestSector(table.words, row * ROW_WORDS, table.ringOf(row).abi);
    this.#notices.gaveUp(table.ringOf(row), table.operation[row], sector);
    table.status[row] = BlkifStatus.error;
    this.finish(row);
  }

  /** One of a request's grant references is invalid: it will end with ERROR. */
  grantFailed(row: number): void {
    const table = this.#table;
    if (table.status[row] !== BlkifStatus.okay) return;
    table.status[row] = BlkifStatus.error;
    this.#notices.badRequest(table.ringOf(row), BadRequest.badGrant);
  }
}
