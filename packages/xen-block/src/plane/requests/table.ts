const NONE = -1;
/** Words of the largest request slot (x86_64 and arm). */
export const ROW_WORDS = 28;

/** Where a request is on its way. */
export const Phase = {
  free: 0,
  /** Taken from the ring; its indirect pages are not here yet. */
  pulled: 1,
  /** Complete; not checked, or waiting for buffer memory. */
  complete: 2,
  /** Ready for the engine. */
  ready: 3,
  /** A flush that goes before the request's own write. */
  preflush: 4,
  /** At the engine. */
  queued: 5,
  /** Ended; its answer is not in the ring. */
  done: 6,
  /** The flush that goes before it has ended; its write is to be started. */
  flushed: 7,
} as const;

/**
 * Every request that a data plane has taken and not answered, as a struct of arrays: a request is a row number,
 * which is also its tag at the engine. The raw slot is kept in the row; what is done goes by this copy alone.
 */
export class RequestTable {
  capacity = 0;
  /** The private copy of each slot, ROW_WORDS apart. */
  words = new Int32Array(0);
  /** Which ring of the data plane. */
  ring = new Int32Array(0);
  phase = new Uint8Array(0);
  /** The operation that is carried out and echoed: for an indirect request the inner one. */
  operation = new Uint8Array(0);
  /** A BlkifStatus. */
  status = new Int8Array(0);
  /** Number of segments. */
  segments = new Uint16Array(0);
  /** 1 when it was refused before anything was done. */
  refused = new Uint8Array(0);
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
  /** Milliseconds on the performance clock. */
  pulledAt = new Float64Array(0);
  queuedAt = new Float64Array(0);
  completedAt = new Float64Array(0);
  /** Free rows, as a stack. */
  #free = new Int32Array(0);
  #freeCount = 0;

  constructor(capacity: number) {
    this.#grow(capacity);
  }

  /** A free row; the table grows when there is none. */
  take(): number {
    if (this.#freeCount === 0) this.#grow(this.capacity * 2);
    return this.#free[--this.#freeCount];
  }

  give(row: number): void {
    this.phase[row] = Phase.free;
    this.refused[row] = 0;
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
    this.segments = grown(this.segments, new Uint16Array(capacity));
    this.refused = grown(this.refused, new Uint8Array(capacity));
    this.indirect = grown(this.indirect, new Int32Array(capacity).fill(NONE));
    this.journal = grown(this.journal, new Int32Array(capacity));
    this.buffer = grown(this.buffer, new Int32Array(capacity).fill(NONE));
    this.offset = grown(this.offset, new Float64Array(capacity));
    this.length = grown(this.length, new Float64Array(capacity));
    this.next = grown(this.next, new Int32Array(capacity).fill(NONE));
    this.pulledAt = grown(this.pulledAt, new Float64Array(capacity));
    this.queuedAt = grown(this.queuedAt, new Float64Array(capacity));
    this.completedAt = grown(this.completedAt, new Float64Array(capacity));
    this.#free = grown(this.#free, new Int32Array(capacity));
    for (let row = capacity - 1; row >= from; row--) this.#free[this.#freeCount++] = row;
    this.capacity = capacity;
  }
}

function grown<T extends Int32Array | Uint8Array | Int8Array | Uint16Array | Float64Array>(old: T, larger: T): T {
  larger.set(old);
  return larger;
}

/** A list of rows that is filled, walked and emptied again and again. */
export class RowList {
  items = new Int32Array(256);
  count = 0;

  add(row: number): void {
    if (this.count === this.items.length) this.items = grown(this.items, new Int32Array(this.count * 2));
    this.items[this.count++] = row;
  }

  clear(): void {
    this.count = 0;
  }
}
