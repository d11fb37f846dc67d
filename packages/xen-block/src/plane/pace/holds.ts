import type { BackRing } from '@xenpv/ring';
import { Batching } from './batching.js';

/** As much of a ring as is needed to hold it. */
export interface HeldRing {
  readonly index: number;
  readonly back: BackRing;
}

/**
 * Which rings sleep until several requests are there, and until how many: columns by ring index. A ring that is held has no
 * request in flight, and somebody must look at it when its time is over: its frontend may not have that many.
 */
export class Holds {
  /** Whether a hold may begin: only while somebody will look at the ring when its time is over. */
  allowed = false;
  readonly #wakeAfter: number[] = [];
  readonly #batching: Batching[] = [];

  open({ index, back }: HeldRing): void {
    this.#wakeAfter[index] = 1;
    this.#batching[index] = new Batching(back.size);
  }

  /** Requests that are worth a wake-up; more than 1 while the ring is held. */
  wakeAfter(ring: HeldRing): number {
    return this.#wakeAfter[ring.index];
  }

  holds(ring: HeldRing): boolean {
    return this.#wakeAfter[ring.index] > 1;
  }

  begin(ring: HeldRing): void {
    this.#wakeAfter[ring.index] = this.#batching[ring.index].next();
  }

  /** Ends a hold, if there is one, before its time is over. */
  end(ring: HeldRing): void {
    if (!this.holds(ring)) return;
    this.#batching[ring.index].woken(ring.back.waiting);
    this.#wakeAfter[ring.index] = 1;
  }

  /** Ends a hold, if there is one, because its time is over. */
  expire(ring: HeldRing): void {
    if (!this.holds(ring)) return;
    this.#batching[ring.index].timedOut(ring.back.waiting);
    this.#wakeAfter[ring.index] = 1;
  }
}
