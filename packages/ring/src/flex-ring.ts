import { type ByteReader, ByteRing, type ByteWriter } from './byte-ring.js';
import { RingError } from './errors.js';
import { FLEX_INTERFACE, flexLayout } from './layout.js';
import type { RingMemory } from './memory.js';

const ORDER_WORD = FLEX_INTERFACE.order / 4;
const REFS_WORD = FLEX_INTERFACE.refs / 4;

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
  /** What the peer wrote. */
  readonly reader: ByteReader;
  /** What the peer will read. */
  readonly writer: ByteWriter;

  /**
   * @param intf the interface page, aligned to 4 bytes
   * @param data the data area: a power of two of at least two bytes, `in` first, then `out`
   * @param end which side this is
   * RingError ERR_RING_MEMORY when one of them does not fit.
   */
  constructor(intf: RingMemory, data: RingMemory, end: 'front' | 'back') {
    if (intf.byteLength < FLEX_INTERFACE.refs) {
      throw new RingError(
        'ERR_RING_MEMORY',
        'create',
        `an interface page of ${intf.byteLength} bytes at ${intf.byteOffset}`,
      );
    }
    const { input, output } = flexLayout(data.byteLength);
    const inward = new ByteRing(intf, input, data);
    const outward = new ByteRing(intf, output, data);
    this.size = inward.size;
    this.reader = end === 'front' ? inward : outward;
    this.writer = end === 'front' ? outward : inward;
  }

  /** Bytes that can be read now; -1 when the peer's index is impossible. */
  get readable(): number {
    return this.reader.readable;
  }

  /** Bytes that can be written now; -1 when the peer's index is impossible. */
  get writable(): number {
    return this.writer.writable;
  }

  /**
   * Moves up to `target.length` bytes out of the ring; returns how many, or -1. The peer is to be notified when any
   * were: these rings have no hold-off.
   */
  read(target: Uint8Array): number {
    return this.reader.read(target);
  }

  /** Moves up to `source.length` bytes into the ring; returns how many, or -1. The peer is to be notified when any were. */
  write(source: Uint8Array): number {
    return this.writer.write(source);
  }
}

/**
 * Writes the description of a data area into its interface page, as the frontend does before it publishes the page:
 * indices 0, the order, the grant reference of each of the 2^order pages.
 */
export function initFlexRing(intf: RingMemory, order: number, refs: ArrayLike<number>): void {
  const words = new Int32Array(intf.buffer, intf.byteOffset, intf.byteLength >> 2);
  words.fill(0);
  words[ORDER_WORD] = order;
  for (let i = 0; i < refs.length; i++) words[REFS_WORD + i] = refs[i] | 0;
}

/**
 * Reads that description, as the backend does: the order and the references, or undefined when the page says an
 * order above `maxOrder` or one whose references do not fit the page.
 */
export function describeFlexRing(intf: RingMemory, maxOrder: number): { order: number; refs: Uint32Array } | undefined {
  const words = new Int32Array(intf.buffer, intf.byteOffset, intf.byteLength >> 2);
  const order = words[ORDER_WORD] >>> 0;
  if (order > maxOrder || REFS_WORD + 2 ** order > words.length) return undefined;
  return { order, refs: Uint32Array.from(words.slice(REFS_WORD, REFS_WORD + 2 ** order), (ref) => ref >>> 0) };
}
