import { RingError } from './errors.js';
import type { ByteRingLayout } from './layout.js';
import type { RingMemory } from './memory.js';

const EMPTY = new Uint8Array(0);

/** The end of a byte stream that bytes come out of. */
export interface ByteReader {
  /** Bytes that can be read now; -1 when the peer's index is impossible. */
  readonly readable: number;
  /** Moves up to `target.length` bytes out of the ring; returns how many, or -1 when the peer's index is impossible. */
  read(target: Uint8Array): number;
  /** Moves all bytes out of the ring, perhaps none; undefined when the peer's index is impossible. */
  readAll(): Uint8Array | undefined;
}

/** The end of a byte stream that bytes go into. */
export interface ByteWriter {
  /** Bytes that can be written now; -1 when the peer's index is impossible. */
  readonly writable: number;
  /**
   * Moves what fits of `source` from `from`, 0 if not given, on into the ring; returns how many bytes, or -1 when the
   * peer's index is impossible.
   */
  write(source: Uint8Array, from?: number): number;
}

/**
 * One direction of a pair of byte streams in shared memory, for its producer or its consumer: a xenstore ring, a
 * console, a half of a flex ring.
 *
 * What comes in is a page that the peer writes at any time. The two indices must be at most the ring's size apart; both
 * run freely through 32 bits. They are read once per call, and a distance that is impossible is reported, never thrown:
 * no byte outside of the ring is read or written. Nothing is notified: whoever moved bytes tells the peer.
 */
export class ByteRing implements ByteReader, ByteWriter {
  /** Bytes that the ring holds, a power of two. */
  readonly size: number;
  readonly #words: Int32Array;
  readonly #consumer: number;
  readonly #producer: number;
  readonly #data: Uint8Array;

  /**
   * @param page the page with the indices, aligned to 4 bytes
   * @param layout where in it the ring is
   * @param data the memory that `layout.data` counts from; `page` if not given
   * RingError ERR_RING_MEMORY when they do not fit.
   */
  constructor(page: RingMemory, layout: ByteRingLayout, data: RingMemory = page) {
    const last = Math.max(layout.consumer, layout.producer) + 4;
    if (page.byteOffset % 4 !== 0 || page.byteLength < last) {
      throw new RingError(
        'ERR_RING_MEMORY',
        'create',
        `an interface page of ${page.byteLength} bytes at ${page.byteOffset}`,
      );
    }
    if (!isPowerOfTwo(layout.bytes) || layout.data + layout.bytes > data.byteLength) {
      throw new RingError('ERR_RING_MEMORY', 'create', `${layout.bytes} bytes at ${layout.data} of ${data.byteLength}`);
    }
    this.size = layout.bytes;
    this.#words = new Int32Array(page.buffer, page.byteOffset, page.byteLength >> 2);
    this.#consumer = layout.consumer >> 2;
    this.#producer = layout.producer >> 2;
    this.#data = new Uint8Array(data.buffer, data.byteOffset + layout.data, layout.bytes);
  }

  /** Bytes that can be read now; -1 when the peer's index is impossible. */
  get readable(): number {
    return this.#queued(this.#load(this.#producer), this.#load(this.#consumer));
  }

  /** Bytes that can be written now; -1 when the peer's index is impossible. */
  get writable(): number {
    const queued = this.readable;
    return queued < 0 ? -1 : this.size - queued;
  }

  /** Moves up to `target.length` bytes out of the ring; returns how many, or -1 when the peer's index is impossible. */
  read(target: Uint8Array): number {
    const consumer = this.#load(this.#consumer);
    const queued = this.#queued(this.#load(this.#producer), consumer);
    const count = Math.min(target.length, queued);
    if (count > 0) this.#take(target, consumer, count);
    return count;
  }

  /** Moves all bytes out of the ring, perhaps none; undefined when the peer's index is impossible. */
  readAll(): Uint8Array | undefined {
    const consumer = this.#load(this.#consumer);
    const queued = this.#queued(this.#load(this.#producer), consumer);
    if (queued <= 0) return queued === 0 ? EMPTY : undefined;
    const bytes = new Uint8Array(queued);
    this.#take(bytes, consumer, queued);
    return bytes;
  }

  /** Moves what fits of `source` from `from` on into the ring; returns how many bytes, or -1 as {@link read}. */
  write(source: Uint8Array, from = 0): number {
    const producer = this.#load(this.#producer);
    const queued = this.#queued(producer, this.#load(this.#consumer));
    if (queued < 0) return -1;
    const count = Math.min(source.length - from, this.size - queued);
    if (count <= 0) return 0;
    const at = producer & (this.size - 1);
    const first = Math.min(count, this.size - at);
    this.#data.set(source.subarray(from, from + first), at);
    this.#data.set(source.subarray(from + first, from + count));
    Atomics.store(this.#words, this.#producer, (producer + count) | 0);
    return count;
  }

  #take(target: Uint8Array, consumer: number, count: number): void {
    const at = consumer & (this.size - 1);
    const first = Math.min(count, this.size - at);
    target.set(this.#data.subarray(at, at + first));
    target.set(this.#data.subarray(0, count - first), first);
    Atomics.store(this.#words, this.#consumer, (consumer + count) | 0);
  }

  #load(word: number): number {
    return Atomics.load(this.#words, word);
  }

  #queued(producer: number, consumer: number): number {
    const queued = (producer - consumer) >>> 0;
    return queued > this.size ? -1 : queued;
  }
}

function isPowerOfTwo(bytes: number): boolean {
  return bytes >= 1 && Number.isInteger(Math.log2(bytes));
}
