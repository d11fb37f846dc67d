import type { BlockRing } from './ring.js';

const NONE = -1;

/**
 * BLKIF_OP_WRITE_BARRIER: all requests before it have ended when it starts, and it has ended before any behind it is
 * taken. One barrier a ring: columns by ring index.
 */
export class Barriers {
  /** The row of the ring's barrier. */
  readonly #row: number[] = [];
  /** It waits for the requests before it. */
  readonly #waits: boolean[] = [];

  open(ring: BlockRing): void {
    this.#row[ring.index] = NONE;
    this.#waits[ring.index] = false;
  }

  /** Whether a request may be taken from the ring now. */
  mayTake(ring: BlockRing): boolean {
    return ring.serving && !this.blocks(ring);
  }

  /** Whether the requests in the ring are behind a barrier. */
  blocks(ring: BlockRing): boolean {
    return this.#row[ring.index] !== NONE;
  }

  /** A barrier was taken. */
  begin(ring: BlockRing, row: number): void {
    this.#row[ring.index] = row;
    this.#waits[ring.index] = false;
  }

  /** A barrier is to be started: whether it must wait; {@link ready} gives it when its turn has come. */
  mustWait(ring: BlockRing): boolean {
    const waits = ring.pending > 1;
    this.#waits[ring.index] = waits;
    return waits;
  }

  /** A request of the ring was answered. The row of a barrier that has waited for it, or -1. */
  ready(ring: BlockRing): number {
    if (!this.#waits[ring.index] || ring.pending > 1) return NONE;
    this.#waits[ring.index] = false;
    return this.#row[ring.index];
  }

  /** The row of a barrier that waits for the requests before it, or -1. It is to be started anew when they are. */
  takeWaiting(ring: BlockRing): number {
    if (!this.#waits[ring.index]) return NONE;
    this.#waits[ring.index] = false;
    return this.#row[ring.index];
  }

  /** A request was answered: what waits behind it may be taken if it was the barrier. */
  end(ring: BlockRing, row: number): void {
    if (this.#row[ring.index] === row) this.#row[ring.index] = NONE;
  }
}
