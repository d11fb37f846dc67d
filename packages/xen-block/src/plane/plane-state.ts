import { BlkifStatus } from '@xenpv/blkif';
import { allocateMemory } from '@xenpv/blockdev';
import type { GrantTable } from '@xenpv/xen-sys';
import { accountingClass } from './counters.js';
import { PassClock } from './pace/clock.js';
import { BadRequest, badRequestStatus } from './requests/bad-request.js';
import { Phase, RequestTable, RowList } from './requests/table.js';
import { publishRequest, requestChannels } from './requests/trace.js';
import type { BlockRing } from './ring.js';
import { PagePool } from './transfer/page-pool.js';

const NONE = -1;

/** What the parts of a data plane share: its memory, its requests, and the lists that requests pass through. */
export class PlaneState {
  /** The data of requests under way. */
  readonly memory: ArrayBufferLike;
  readonly memoryWords: Int32Array;
  /** The address of its first byte for grant copies. */
  readonly memoryAddress: number;
  readonly pool: PagePool;
  readonly table = new RequestTable(256);
  readonly rings: (BlockRing | undefined)[] = [];
  /** Rings that have to be looked at. */
  awake: BlockRing[] = [];
  /** What still waits for memory, and after it what was taken in this pass. */
  readonly fresh = new RowList();
  /** Admitted in this pass. */
  readonly ready = new RowList();
  /** To be started once more: the write after a flush, the parts of a merged call that failed. */
  again = new RowList();
  /** Ended; to be answered. */
  readonly done = new RowList();
  readonly clock = new PassClock();
  /** Rings may sleep until they have several requests: the thread looks at them when a time is over. */
  mayHold = false;
  /** Something was told to others that can only go on when the event loop has its turn. */
  attention = false;

  constructor(grants: GrantTable, bytes: number) {
    this.pool = new PagePool(bytes);
    this.memory = allocateMemory(bytes);
    this.memoryWords = new Int32Array(this.memory);
    this.memoryAddress = grants.register(this.memory);
  }

  ringOf(row: number): BlockRing {
    return this.rings[this.table.ring[row]]!;
  }

  wake(ring: BlockRing): void {
    if (ring.awake) return;
    ring.awake = true;
    this.awake.push(ring);
  }

  /** Gives back the memory of a request's indirect pages, if it has any. */
  giveIndirect(row: number): void {
    const at = this.table.indirect[row];
    if (at === NONE) return;
    this.pool.give(at);
    this.table.indirect[row] = NONE;
  }

  /** A request has ended, well or not: its status is set. */
  finish(row: number): void {
    this.table.phase[row] = Phase.done;
    this.table.completedAt[row] = this.clock.now;
    this.done.add(row);
    if (!requestChannels.completed.hasSubscribers) return;
    publishRequest(requestChannels.completed, this.table, row, this.ringOf(row));
  }

  reportBad(ring: BlockRing, reason: BadRequest): void {
    ring.reportBad(reason, performance.now());
    this.attention = true;
  }

  /** Ends a request before anything was done for it. */
  refuse(row: number, reason: BadRequest): void {
    const { table } = this;
    const ring = this.ringOf(row);
    this.reportBad(ring, reason);
    if (reason === BadRequest.unknownOperation) ring.counters.unknown();
    else ring.counters.invalid(accountingClass(table.operation[row]));
    table.status[row] = badRequestStatus(reason);
    table.length[row] = 0;
    table.refused[row] = 1;
    this.finish(row);
  }

  /** One of a request's references is of no use: it will end with ERROR. */
  grantFailed(row: number): void {
    if (this.table.status[row] !== BlkifStatus.okay) return;
    this.table.status[row] = BlkifStatus.error;
    this.reportBad(this.ringOf(row), BadRequest.badGrant);
  }
}
