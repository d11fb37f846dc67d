import { unlessAborted } from '@xenpv/xen-sys';
import { RECORD_WORDS, RecordWord, TraceBuffer } from '../plane/trace/trace-buffer.js';

/** What a trace has seen since it was read last. */
export interface TraceBatch {
  /** RECORD_WORDS of each record, in the order of {@link RecordWord}; of each queue in its order. */
  readonly records: Float64Array;
  /** Records that were overwritten before they were read. */
  readonly lost: number;
  /** The disk is gone: this is all. */
  readonly ended: boolean;
}

/** Who reads what the requests of a disk do. Reading late loses records, and slows nothing. */
export interface DiskTrace extends Disposable {
  /** At most `most` records. */
  read(most: number): TraceBatch;
}

/** The traces of one disk, over all of its connections. Without one there is nothing: neither memory nor work. */
export class DiskTracing {
  /** Has the rings begin or end to write, when that changes. */
  readonly #apply: () => Promise<void>;
  readonly #readers = new Set<Reader>();
  #buffers: TraceBuffer[] = [];
  #ended = false;

  constructor(apply: () => Promise<void>) {
    this.#apply = apply;
  }

  /** Where a queue's ring is to write to. */
  memoryOf(queue: number): SharedArrayBuffer | undefined {
    if (this.#readers.size === 0) return undefined;
    return (this.#buffers[queue] ??= TraceBuffer.create()).memory;
  }

  /** Resolves when the rings write. When it rejects, with the signal's reason too, nobody reads. */
  async open(signal?: AbortSignal): Promise<DiskTrace> {
    signal?.throwIfAborted();
    const reader = new Reader({
      buffers: () => this.#buffers,
      hasEnded: () => this.#ended,
      closed: () => this.#closed(reader),
    });
    this.#readers.add(reader);
    try {
      await unlessAborted(signal, this.#apply);
    } catch (error) {
      reader[Symbol.dispose]();
      throw error;
    }
    return reader;
  }

  /** The disk is gone: readers get what there is. */
  end(): void {
    this.#ended = true;
  }

  #closed(reader: Reader): void {
    if (!this.#readers.delete(reader) || this.#readers.size > 0) return;
    this.#buffers = [];
    if (!this.#ended) void this.#apply();
  }
}

interface ReaderParts {
  readonly buffers: () => readonly (TraceBuffer | undefined)[];
  readonly hasEnded: () => boolean;
  readonly closed: () => void;
}

class Reader implements DiskTrace {
  readonly #parts: ReaderParts;
  /** By queue: the number of the record to go on with. A queue that comes later is read from its beginning. */
  readonly #next: number[];
  /** Which queue is read first, so that a busy one does not keep the others. */
  #first = 0;

  constructor(parts: ReaderParts) {
    this.#parts = parts;
    this.#next = parts.buffers().map((buffer) => buffer?.head ?? 0);
  }

  read(most: number): TraceBatch {
    const buffers = this.#parts.buffers();
    const ended = this.#parts.hasEnded();
    const records = new Float64Array(most * RECORD_WORDS);
    let count = 0;
    let lost = 0;
    this.#first++;
    for (let i = 0; i < buffers.length; i++) {
      const queue = (this.#first + i) % buffers.length;
      const read = buffers[queue]?.read(this.#next[queue] ?? 0, most - count, records.subarray(count * RECORD_WORDS));
      if (!read) continue;
      for (let at = count; at < count + read.count; at++) records[at * RECORD_WORDS + RecordWord.queue] = queue;
      this.#next[queue] = read.next;
      count += read.count;
      lost += read.lost;
    }
    return { records: records.subarray(0, count * RECORD_WORDS), lost, ended: ended && count < most };
  }

  /** Harmless when repeated. */
  [Symbol.dispose](): void {
    this.#parts.closed();
  }
}
