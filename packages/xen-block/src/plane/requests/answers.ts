import { BlkifOp, BlkifStatus, encodeResponse, requestIdHigh, requestIdLow } from '@xenpv/blkif';
import type { EventChannels } from '@xenpv/xen-sys';
import { accountingClass } from '../counters.js';
import type { PlaneState } from '../plane-state.js';
import type { BlockRing } from '../ring.js';
import { type CopyFunction, CopyStage } from '../transfer/copy-stage.js';
import { copySegments } from './segments.js';
import { ROW_WORDS } from './table.js';
import { publishRequest, requestChannels } from './trace.js';

const NONE = -1;
const COPY_BATCH = 2048;
/** Requests that move more than this cost much more than the wake-up for them. */
const SMALL_BYTES = 32 * 1024;

/** The second half of a pass: copies out what was read, puts and pushes the answers, notifies who asked for it. */
export class RequestAnswers {
  readonly #s: PlaneState;
  readonly #events: EventChannels;
  readonly #copyOut: CopyStage;
  /** Rings with answers to push. */
  readonly #touched: BlockRing[] = [];
  readonly #response = new Int32Array(4);

  constructor(state: PlaneState, events: EventChannels, copy: CopyFunction) {
    this.#s = state;
    this.#events = events;
    this.#copyOut = new CopyStage(copy, COPY_BATCH, state.memoryAddress, (row) => state.grantFailed(row));
  }

  /** Answers all that has ended; returns how many requests. */
  answer(): number {
    const s = this.#s;
    const { items, count } = s.done;
    if (count === 0) return 0;
    for (let i = 0; i < count; i++) this.#copyRead(items[i]);
    this.#copyOut.run();
    s.clock.tick();
    for (let i = 0; i < count; i++) this.#respond(items[i]);
    s.done.clear();
    for (let i = 0; i < this.#touched.length; i++) this.#push(this.#touched[i]);
    this.#touched.length = 0;
    return count;
  }

  #copyRead(row: number): void {
    const t = this.#s.table;
    if (t.buffer[row] === NONE || t.operation[row] !== BlkifOp.read || t.status[row] !== BlkifStatus.okay) return;
    copySegments(this.#s, row, this.#s.ringOf(row), this.#copyOut, true);
  }

  #respond(row: number): void {
    const t = this.#s.table;
    const ring = this.#s.ringOf(row);
    this.#account(row, ring);
    // A frontend that gets its answer may check that its pages are not mapped any more.
    ring.mapper?.unmap(row);
    if (!ring.broken) this.#put(row, ring);
    if (requestChannels.pushed.hasSubscribers) publishRequest(requestChannels.pushed, t, row, ring);
    if (ring.barrier === row) ring.barrier = NONE;
    const bytes = t.length[row];
    this.#release(row);
    t.give(row);
    ring.pending--;
    ring.answeredBytes += bytes;
    if (ring.answered++ === 0) this.#touched.push(ring);
  }

  #put(row: number, ring: BlockRing): void {
    const t = this.#s.table;
    const { abi, journal } = ring;
    if (journal) journal.answer(t.journal[row], ring.back.responsesProduced);
    const low = requestIdLow(t.words, row * ROW_WORDS, abi);
    const high = requestIdHigh(t.words, row * ROW_WORDS, abi);
    encodeResponse(this.#response, 0, abi, low, high, t.operation[row], t.status[row]);
    ring.back.putResponse(this.#response, 0, abi.responseWords);
  }

  #account(row: number, ring: BlockRing): void {
    const t = this.#s.table;
    const { clock } = this.#s;
    const timed = t.pulledAt[row] > 0;
    if (timed) clock.timed--;
    if (t.refused[row] === 1) return;
    const kind = accountingClass(t.operation[row]);
    if (t.status[row] !== BlkifStatus.okay) {
      ring.counters.failed(kind);
      return;
    }
    ring.counters.done(kind, t.length[row]);
    if (!timed) return;
    ring.counters.latency(kind, clock.every, t.pulledAt[row], t.queuedAt[row], t.completedAt[row], clock.now);
  }

  #release(row: number): void {
    const { table, pool } = this.#s;
    this.#s.giveIndirect(row);
    if (table.buffer[row] !== NONE) pool.give(table.buffer[row]);
    table.buffer[row] = NONE;
  }

  #push(ring: BlockRing): void {
    const small = ring.answeredBytes <= ring.answered * SMALL_BYTES;
    ring.answered = 0;
    ring.answeredBytes = 0;
    ring.counters.inFlight(ring.pending);
    if (!ring.broken && ring.back.pushResponses()) {
      this.#events.notify(ring.port);
      ring.counters.notification();
    }
    if (ring.barrierParked && ring.pending === 1) {
      ring.barrierParked = false;
      this.#s.again.add(ring.barrier);
    }
    if (ring.pending > 0) return;
    if (this.#s.mayHold && small) ring.wanted = ring.holdOff.next();
    if (ring.tellIdle()) this.#s.attention = true;
  }
}
