import { RingError } from './errors.js';
import type { RingMemory } from './memory.js';

/** Word offsets in the interface page (`struct xen_*_data_intf` of DEFINE_XEN_FLEX_RING). */
const IN = { cons: 0, prod: 1 } as const;
const OUT = { cons: 16, prod: 17 } as const;
const RING_ORDER_WORD = 32;
const REFS_WORD = 33;
const INTERFACE_BYTES = 132;

/** One direction: free-running u32 indices in the interface page, bytes in one half of the data area. */
interface Half {
  readonly cons: number;
  readonly prod: number;
  readonly bytes: Uint8Array;
}

/** Bytes of each direction of a flex ring of `order`: half of its 2^order data pages (XEN_FLEX_RING_SIZE). */
export function flexRingSize(order: number): number {
  return 2 ** (order + 11);
}

/**
 * A pair of byte streams (io/ring.h DEFINE_XEN_FLEX_RING) as 9pfs and pvcalls use them: the backend writes `in` and
 * reads `out`, the frontend the other way round.
 *
 * The indices are shared: a peer whose index is impossible is reported as -1, never thrown.
 */
export class FlexRing {
  /** Bytes of each direction, a power of two. */
  readonly size: number;
  readonly #indices: Int32Array;
  readonly #read: Half;
  readonly #write: Half;

  /**
   * @param intf the interface page, aligned to 4 bytes
   * @param data the data area: a power of two of at least two bytes, `in` first, then `out`
   * @param end which side this is
   * RingError ERR_RING_MEMORY when one of them does not fit.
   */
  constructor(intf: RingMemory, data: RingMemory, end: 'front' | 'back') {
    if (intf.byteOffset % 4 !== 0 || intf.byteLength < INTERFACE_BYTES) {
      throw new RingError('ERR_RING_MEMORY', `an interface page of ${intf.byteLength} bytes at ${intf.byteOffset}`);
    }
    if (data.byteLength < 2 || !Number.isInteger(Math.log2(data.byteLength))) {
      throw new RingError('ERR_RING_MEMORY', `a data area of ${data.byteLength} bytes is not a power of two`);
    }
    this.size = data.byteLength / 2;
    this.#indices = new Int32Array(intf.buffer, intf.byteOffset, intf.byteLength >> 2);
    const inward: Half = { ...IN, bytes: new Uint8Array(data.buffer, data.byteOffset, this.size) };
    const outward: Half = { ...OUT, bytes: new Uint8Array(data.buffer, data.byteOffset + this.size, this.size) };
    this.#read = end === 'front' ? inward : outward;
    this.#write = end === 'front' ? outward : inward;
  }

  /** Bytes that can be read now; -1 when the peer's index is impossible. */
  get readable(): number {
    return this.#queued(this.#read);
  }

  /** Bytes that can be written now; -1 when the peer's index is impossible. */
  get writable(): number {
    const queued = this.#queued(this.#write);
    return queued < 0 ? -1 : this.size - queued;
  }

  /**
   * Moves up to `target.length` bytes out of the ring; returns how many, or -1. The peer is to be notified when any
   * were: these rings have no hold-off.
   */
  read(target: Uint8Array): number {
    const half = this.#read;
    const n = Math.min(target.length, this.#queued(half));
    if (n <= 0) return n;
    const cons = Atomics.load(this.#indices, half.cons);
    const from = (cons >>> 0) % this.size;
    const first = Math.min(n, this.size - from);
    target.set(half.bytes.subarray(from, from + first));
    target.set(half.bytes.subarray(0, n - first), first);
    Atomics.store(this.#indices, half.cons, (cons + n) | 0);
    return n;
  }

  /** Moves up to `source.length` bytes into the ring; returns how many, or -1. The peer is to be notified when any were. */
  write(source: Uint8Array): number {
    const half = this.#write;
    const n = Math.min(source.length, this.writable);
    if (n <= 0) return n;
    const prod = Atomics.load(this.#indices, half.prod);
    const to = (prod >>> 0) % this.size;
    const first = Math.min(n, this.size - to);
    half.bytes.set(source.subarray(0, first), to);
    half.bytes.set(source.subarray(first, n));
    Atomics.store(this.#indices, half.prod, (prod + n) | 0);
    return n;
  }

  #queued(half: Half): number {
    const queued = (Atomics.load(this.#indices, half.prod) - Atomics.load(this.#indices, half.cons)) >>> 0;
    return queued > this.size ? -1 : queued;
  }
}

/**
 * Writes the description of a data area into its interface page, as the frontend does before it publishes the page:
 * indices 0, the order, the grant reference of each of the 2^order pages.
 */
export function initFlexRing(intf: RingMemory, order: number, refs: ArrayLike<number>): void {
  const words = new Int32Array(intf.buffer, intf.byteOffset, intf.byteLength >> 2);
  words.fill(0);
  words[RING_ORDER_WORD] = order;
  for (let i = 0; i < refs.length; i++) words[REFS_WORD + i] = refs[i] | 0;
}

/**
 * Reads that description, as the backend does: the order and the references, or undefined when the page says an
 * order above `maxOrder` or one whose references do not fit the page.
 */
export function describeFlexRing(intf: RingMemory, maxOrder: number): { order: number; refs: Uint32Array } | undefined {
  const words = new Int32Array(intf.buffer, intf.byteOffset, intf.byteLength >> 2);
  const order = words[RING_ORDER_WORD] >>> 0;
  if (order > maxOrder || REFS_WORD + 2 ** order > words.length) return undefined;
  return { order, refs: Uint32Array.from(words.slice(REFS_WORD, REFS_WORD + 2 ** order), (ref) => ref >>> 0) };
}
