/**
 * What passes between the thread that serves a traced ring and whoever reads the trace: shared memory with a head and
 * room for so many records, the oldest of which are overwritten. The writer never looks at a reader, so that none can
 * slow it; a reader keeps its own place, and finds out by the head what it has lost.
 *
 * What must hold: a record is whole before the head passes it. A reader takes nothing of the last eighth before the
 * head's overwriting end, where the writer may be.
 */

/** The points of a request's way, in order. */
export const TRACE_POINTS = ['taken', 'storage', 'done', 'pushed'] as const;
/** The name of a point. */
export type TracePoint = (typeof TRACE_POINTS)[number];
/** The same as numbers. */
export const Point = {
  /** Taken from the ring; nothing of it is checked. */
  taken: 0,
  /** Given to the storage's engine: more than once if it is done in two steps, as a flush with data, or done again. */
  storage: 1,
  /** Ended, well or not; what was read is not copied to the guest yet. */
  done: 2,
  /** Its response is in the ring, and is published next. */
  pushed: 3,
} as const;
export type PointNumber = (typeof Point)[keyof typeof Point];

/** Where each value of a record is, in 64-bit floats; -1 for what is not known. */
export const RecordWord = {
  /** Milliseconds since 1970. */
  time: 0,
  /** A {@link Point}. */
  point: 1,
  /** A BlkifOp, for an indirect request the inner one. */
  operation: 2,
  /** The lower 32 bits of the request's `id`, unsigned. */
  idLow: 3,
  /** The upper 32 bits of it, unsigned. */
  idHigh: 4,
  /** In 512-byte units. */
  sector: 5,
  /** In 512-byte units. Until the request was found good: -1 for an indirect one, 0 for a discard. */
  sectors: 6,
  /** Milliseconds. */
  latency: 7,
  /** A BlkifStatus. */
  status: 8,
  /** Which request of the ring, counted since the trace began. */
  request: 9,
  /** Set by the reader. */
  queue: 10,
} as const;

/** 64-bit floats of one record: as many as {@link RecordWord} has. */
export const RECORD_WORDS = 11;

/** Records of a ring that are kept. A power of two. */
const RECORDS = 16_384;
const HEAD = 0;
const REQUESTS = 1;
const HEADER_BYTES = 8;
/** How many of the oldest records are left to the writer. */
const MARGIN = 8;

/** Both ends map one over the same memory. */
export class TraceBuffer {
  readonly memory: SharedArrayBuffer;
  readonly #header: Int32Array;
  readonly #records: Float64Array;
  readonly #capacity: number;

  /** Error: RangeError, unless `memory` is what {@link create} makes. */
  constructor(memory: SharedArrayBuffer) {
    this.memory = memory;
    this.#header = new Int32Array(memory, 0, HEADER_BYTES / 4);
    this.#records = new Float64Array(memory, HEADER_BYTES);
    this.#capacity = this.#records.length / RECORD_WORDS;
  }

  /** `records`: a power of two. */
  static create(records = RECORDS): TraceBuffer {
    return new TraceBuffer(new SharedArrayBuffer(HEADER_BYTES + records * RECORD_WORDS * 8));
  }

  /** The records written so far, modulo 2^32. */
  get head(): number {
    return Atomics.load(this.#header, HEAD) >>> 0;
  }

  /** The writer's: another request's number. */
  nextRequest(): number {
    return this.#header[REQUESTS]++ >>> 0;
  }

  /** The writer's: adds a record, of RECORD_WORDS. */
  put(record: Float64Array): void {
    const head = this.#header[HEAD];
    this.#records.set(record, (head & (this.#capacity - 1)) * RECORD_WORDS);
    Atomics.store(this.#header, HEAD, (head + 1) | 0);
  }

  /**
   * The reader's: copies at most `most` records from number `from` on to the front of `target`. Returns how many, the number of the one
   * to go on with, and how many were overwritten before they could be read.
   */
  read(from: number, most: number, target: Float64Array): { count: number; next: number; lost: number } {
    const readable = this.#capacity - this.#capacity / MARGIN;
    const behind = (this.head - from) >>> 0;
    const lost = Math.max(0, behind - readable);
    const first = (from + lost) >>> 0;
    const count = Math.min(behind - lost, most);
    for (let i = 0; i < count; i++) {
      const at = ((first + i) & (this.#capacity - 1)) * RECORD_WORDS;
      target.set(this.#records.subarray(at, at + RECORD_WORDS), i * RECORD_WORDS);
    }
    const next = (first + count) >>> 0;
    // The writer may have come round meanwhile.
    const late = Math.min(count, Math.max(0, ((this.head - first) >>> 0) - this.#capacity + 1));
    if (late === 0) return { count, next, lost };
    target.copyWithin(0, late * RECORD_WORDS, count * RECORD_WORDS);
    return { count: count - late, next, lost: lost + late };
  }
}
