import { MAX_SEGMENTS, SEGMENT_WORDS } from '@xenpv/blkif';
import { allocateMemory } from '@xenpv/blockdev';
import { type GrantTable, XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import { PagePool, runBytes } from './page-pool.js';

const ZEROES = Buffer.alloc(XEN_PAGE_SIZE);
const NONE = -1;
/** The reserve is so many times as large as the memory. It is address space: a page of it costs when it is used. */
const RESERVE = 8;

/**
 * A data plane's own memory, in which copied requests have their data and indirect requests their segments. It is two
 * pools: the memory itself, which engines keep registered, and a reserve, which is made when it is needed first.
 *
 * A run is known by its place: bytes into the memory, and behind its end those of the reserve.
 */
export class DataMemory {
  readonly buffer: ArrayBufferLike;
  readonly words: Int32Array;
  /** The address of its first byte for grant copies. */
  readonly address: number;
  readonly pool: PagePool;
  readonly #bytes: Uint8Array;
  readonly #grants: GrantTable;
  /** NONE: there was no address space for it. */
  #reserve: Reserve | typeof NONE | undefined;

  /** `bytes`: a power of two. */
  constructor(grants: GrantTable, bytes: number) {
    this.#grants = grants;
    this.buffer = allocateMemory(bytes);
    this.pool = poolOf(this.buffer);
    this.words = new Int32Array(this.buffer);
    this.#bytes = new Uint8Array(this.buffer);
    this.address = grants.register(this.buffer);
  }

  /** Whether a request of so many segments finds memory for its data and for its segments when all of it is free. */
  hasRoomFor(segments: number): boolean {
    return leastMemory(segments) <= this.pool.bytes;
  }

  /** Bytes of the reserve that are free. */
  get reserveFree(): number {
    const reserve = this.#reserve;
    if (reserve === undefined) return this.pool.bytes * RESERVE;
    return reserve === NONE ? 0 : reserve.pool.freeBytes;
  }

  /** Bytes of all runs that were taken. */
  get usedBytes(): number {
    const { bytes, freeBytes } = this.pool;
    const reserve = this.#reserve;
    return bytes - freeBytes + (typeof reserve === 'object' ? reserve.pool.bytes - reserve.pool.freeBytes : 0);
  }

  /** The place of a run of at least `bytes` in the reserve, in which there is nothing of other guests; or -1. */
  takeReserve(bytes: number, guest: number): number {
    this.#reserve ??= this.#makeReserve();
    if (this.#reserve === NONE) return NONE;
    const at = this.#reserve.pool.take(bytes, guest);
    return at === NONE ? NONE : this.pool.bytes + at;
  }

  /** Gives back a run of either pool; returns its bytes. */
  give(place: number): number {
    if (place < this.pool.bytes) return this.pool.give(place);
    return this.#theReserve.pool.give(place - this.pool.bytes);
  }

  /** A guest is gone: nothing is kept for it. */
  forget(guest: number): void {
    this.pool.forget(guest);
    if (typeof this.#reserve === 'object') this.#reserve.pool.forget(guest);
  }

  isReserve(place: number): boolean {
    return place >= this.pool.bytes;
  }

  /** The reserve's memory, for engines, and a place's bytes into it. */
  get reserveBuffer(): ArrayBufferLike {
    return this.#theReserve.buffer;
  }

  offsetInReserve(place: number): number {
    return place - this.pool.bytes;
  }

  /** The words that a place is among, and which of them it is. */
  wordsOf(place: number): Int32Array {
    return place < this.pool.bytes ? this.words : this.#theReserve.words;
  }

  wordOf(place: number): number {
    return (place < this.pool.bytes ? place : place - this.pool.bytes) >> 2;
  }

  /** A place as grant copies count it: bytes from {@link address} on. */
  distanceOf(place: number): number {
    return place < this.pool.bytes ? place : this.#theReserve.distance + place - this.pool.bytes;
  }

  /** The bytes at a distance. */
  bytesAt(distance: number, length: number): Uint8Array {
    if (distance >= 0 && distance < this.pool.bytes) return this.#bytes.subarray(distance, distance + length);
    const { bytes, distance: first } = this.#theReserve;
    return bytes.subarray(distance - first, distance - first + length);
  }

  get #theReserve(): Reserve {
    if (typeof this.#reserve !== 'object') throw new RangeError('there is no reserve yet');
    return this.#reserve;
  }

  #makeReserve(): Reserve | typeof NONE {
    const bytes = this.pool.bytes * RESERVE;
    try {
      const buffer = allocateMemory(bytes);
      return {
        buffer,
        bytes: new Uint8Array(buffer),
        words: new Int32Array(buffer),
        distance: this.#grants.register(buffer) - this.address,
        pool: poolOf(buffer),
      };
    } catch {
      return NONE;
    }
  }
}

interface Reserve {
  readonly buffer: ArrayBufferLike;
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  /** From the address of the memory to its own. */
  readonly distance: number;
  readonly pool: PagePool;
}

/** Over all of `buffer`. */
function poolOf(buffer: ArrayBufferLike): PagePool {
  const memory = Buffer.from(buffer);
  // With a source it is a memcpy: `fill(0)` of shared memory is atomic byte by byte, and much slower.
  return new PagePool(buffer.byteLength, (offset, length) => memory.fill(ZEROES, offset, offset + length));
}

/** Bytes with which an indirect request of so many segments can be served. */
export function leastMemory(segments: number): number {
  return 2 * Math.max(segments, MAX_SEGMENTS) * XEN_PAGE_SIZE;
}

/** Bytes of the runs of the largest request of a ring with so many indirect segments. */
export function guaranteeOf(segments: number): number {
  return runBytes(Math.max(segments, MAX_SEGMENTS) * XEN_PAGE_SIZE) + runBytes(segments * SEGMENT_WORDS * 4);
}
