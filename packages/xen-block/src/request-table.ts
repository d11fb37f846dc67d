const NONE = -1;
/** Words of the largest request slot (x86_64 and arm). */
export const ROW_WORDS = 28;
/** Bytes of all columns: five of doubles, the words and six others of words, one of halfwords and four of bytes. */
const ROW_BYTES = 5 * 8 + (ROW_WORDS + 6) * 4 + 2 + 4;

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

  /** All columns are parts of one piece of memory: a request touches few of its pages. */
  #grow(capacity: number): void {
    const from = this.capacity;
    const memory = new ArrayBuffer(capacity * ROW_BYTES);
    let at = 0;
    const place = <T extends Column>(
      old: T,
      Type: new (memory: ArrayBuffer, at: number, length: number) => T,
      n = 1,
    ): T => {
      const column = new Type(memory, at, capacity * n);
      column.set(old);
      at += column.byteLength;
      return column;
    };
    this.offset = place(this.offset, Float64Array);
    this.length = place(this.length, Float64Array);
    this.pulledAt = place(this.pulledAt, Float64Array);
    this.queuedAt = place(this.queuedAt, Float64Array);
    this.completedAt = place(this.completedAt, Float64Array);
    this.ring = place(this.ring, Int32Array);
    this.indirect = place(this.indirect, Int32Array).fill(NONE, from);
    this.journal = place(this.journal, Int32Array);
    this.buffer = place(this.buffer, Int32Array).fill(NONE, from);
    this.next = place(this.next, Int32Array).fill(NONE, from);
    this.#free = place(this.#free, Int32Array);
    this.words = place(this.words, Int32Array, ROW_WORDS);
    this.segments = place(this.segments, Uint16Array);
    this.phase = place(this.phase, Uint8Array);
    this.operation = place(this.operation, Uint8Array);
    this.status = place(this.status, Int8Array);
    this.refused = place(this.refused, Uint8Array);
    for (let row = capacity - 1; row >= from; row--) this.#free[this.#freeCount++] = row;
    this.capacity = capacity;
  }
}

type Column = Int32Array | Uint8Array | Int8Array | Uint16Array | Float64Array;

function grown<T extends Column>(old: T, larger: T): T {
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
