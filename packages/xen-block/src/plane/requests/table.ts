/**
 * Every request that a data plane has taken and not answered, as a struct of arrays: a request is a row number, which
 * is also in its tag at the engine. The raw slot is kept in the row, and everything goes by this copy alone: shared
 * memory is never read a second time.
 *
 * The life of a row, by its phase and the list that it is in:
 *
 *     phase      list       who moves it on, and when
 *     free       –          intake takes a row for each slot that it takes; its ring's `pending` counts it from here
 *     taken      taken      intake: the header is good, its guest has its turn and there is memory; otherwise it waits,
 *                           `taken` still, in its ring's list of Waiting
 *     complete   –          intake, in the same pass: the indirect pages are copied in and the range is good
 *     admitted   admitted   dispatch: gives it to the engine, alone or in the chain (`next`) that its leader's tag
 *                           stands for; a barrier first waits, in no list, until it is its ring's only pending row
 *     flushing   –          engine: the flush before a write has ended
 *     flushed    restart    dispatch: starts that write
 *     queued     –          engine: it has ended; the rows of a chain that failed go to `restart`, each by itself
 *     kept       –          the storage failed it and the disk is stopped: its ring has it in `kept`, without memory,
 *                           until the disk is resumed, when it is `taken` once more
 *     ended      ended      answers: copies read data out, puts the response and frees the row
 *
 * Any row that is not at the engine can be `ended` early, by `RequestEnds`: refused, or one of its grants failed.
 *
 * What must hold:
 * - A row that was taken is answered exactly once, then free. On a broken ring the response is left out, nothing else.
 * - A row is in one list at most. Its buffer, indirect memory and mapped pages are its own until its answer.
 * - A row at the engine is `queued` or `flushing`, and its chain's links change only when the engine has ended it.
 * - A row that is started or ended wakes its ring, which stays awake until the end of a pass: so its engine is polled,
 *   and what waits in the ring behind a barrier is looked at.
 * - As long as a ring is awake, or `admitted`, `restart` or `ended` is not empty, or a row waits for its guest's turn, a
 *   pass is owed. A row that waits for memory waits for what other rows of its disk have, each of which ends with a pass.
 */
import { grown } from '../grown.js';
import type { BlockRing } from '../rings/ring.js';
import type { RingSet } from '../rings/ring-set.js';

const NONE = -1;
/** Words of the largest request slot (x86_64 and arm). */
export const ROW_WORDS = 28;

/** Where a request is in its life, see the head of this file. */
export const Phase = {
  free: 0,
  taken: 1,
  complete: 2,
  admitted: 3,
  flushing: 4,
  flushed: 5,
  queued: 6,
  ended: 7,
  kept: 8,
} as const;

/** Whether a row's request is an earlier process's: one that is carried out again, or that has killed too many. */
export const Recovered = { no: 0, again: 1, givenUp: 2 } as const;

export class RequestTable {
  capacity = 0;
  /** A ring of the plane is traced. */
  traced = false;
  /** Requests are told of as they pass their points, see `observe`. */
  observed = false;
  /** The private copy of each slot, ROW_WORDS apart. */
  words = new Int32Array(0);
  /** Which ring of the data plane. */
  ring = new Int32Array(0);
  phase = new Uint8Array(0);
  /** The operation that is carried out and echoed: for an indirect request the inner one. */
  operation = new Uint8Array(0);
  /** A BlkifStatus. */
  status = new Int8Array(0);
  /** In which span of time it began, see RequestAges. */
  span = new Uint8Array(0);
  /** Number of segments. */
  segments = new Uint16Array(0);
  /** 1 when it was refused before anything was done. */
  refused = new Uint8Array(0);
  /** A Recovered. */
  recovered = new Uint8Array(0);
  /** Pool offset of the copy of the indirect pages, or -1. */
  indirect = new Int32Array(0);
  /** Entry of the ring's journal, if it has one. */
  journal = new Int32Array(0);
  /** Pool offset of the data, or -1. */
  buffer = new Int32Array(0);
  /** Byte offset in the image and bytes moved. */
  offset = new Float64Array(0);
  length = new Float64Array(0);
  /** The next row that was merged into this one's engine call, or -1. */
  next = new Int32Array(0);
  /** The tag of the engine call that it leads, or -1. */
  call = new Int32Array(0);
  /** Milliseconds on the performance clock. */
  pulledAt = new Float64Array(0);
  queuedAt = new Float64Array(0);
  completedAt = new Float64Array(0);
  readonly #rings: RingSet['all'];
  /** Free rows, as a stack. */
  #free = new Int32Array(0);
  #freeCount = 0;

  constructor(rings: RingSet, capacity: number) {
    this.#rings = rings.all;
    this.#grow(capacity);
  }

  ringOf(row: number): BlockRing {
    return this.#rings[this.ring[row]]!;
  }

  /** A free row; the table grows when there is none. */
  take(): number {
    if (this.#freeCount === 0) this.#grow(this.capacity * 2);
    return this.#free[--this.#freeCount];
  }

  give(row: number): void {
    this.phase[row] = Phase.free;
    this.refused[row] = 0;
    this.recovered[row] = Recovered.no;
    this.length[row] = 0;
    this.#free[this.#freeCount++] = row;
  }

  /** Rows in use. */
  get used(): number {
    return this.capacity - this.#freeCount;
  }

  #grow(capacity: number): void {
    const from = this.capacity;
    this.words = grown(this.words, new Int32Array(capacity * ROW_WORDS));
    this.ring = grown(this.ring, new Int32Array(capacity));
    this.phase = grown(this.phase, new Uint8Array(capacity));
    this.operation = grown(this.operation, new Uint8Array(capacity));
    this.status = grown(this.status, new Int8Array(capacity));
    this.span = grown(this.span, new Uint8Array(capacity));
    this.segments = grown(this.segments, new Uint16Array(capacity));
    this.refused = grown(this.refused, new Uint8Array(capacity));
    this.recovered = grown(this.recovered, new Uint8Array(capacity));
    this.indirect = grown(this.indirect, new Int32Array(capacity).fill(NONE));
    this.journal = grown(this.journal, new Int32Array(capacity));
    this.buffer = grown(this.buffer, new Int32Array(capacity).fill(NONE));
    this.offset = grown(this.offset, new Float64Array(capacity));
    this.length = grown(this.length, new Float64Array(capacity));
    this.next = grown(this.next, new Int32Array(capacity).fill(NONE));
    this.call = grown(this.call, new Int32Array(capacity).fill(NONE));
    this.pulledAt = grown(this.pulledAt, new Float64Array(capacity));
    this.queuedAt = grown(this.queuedAt, new Float64Array(capacity));
    this.completedAt = grown(this.completedAt, new Float64Array(capacity));
    this.#free = grown(this.#free, new Int32Array(capacity));
    for (let row = capacity - 1; row >= from; row--) this.#free[this.#freeCount++] = row;
    this.capacity = capacity;
  }
}
