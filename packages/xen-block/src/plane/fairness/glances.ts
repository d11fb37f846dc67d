import type { Holds } from '../pace/holds.js';
import type { Barriers } from '../rings/barriers.js';
import type { RingSet } from '../rings/ring-set.js';

/** Rings that one glance looks at. */
const RINGS = 64;

/**
 * Looks at rings that may sleep, while others keep the thread from the event loop, where their events are: a glance
 * costs one read of shared memory for each ring, a turn of the event loop several system calls.
 */
export class Glances {
  readonly #rings: RingSet;
  readonly #barriers: Barriers;
  readonly #holds: Holds;
  #next = 0;

  constructor(rings: RingSet, barriers: Barriers, holds: Holds) {
    this.#rings = rings;
    this.#barriers = barriers;
    this.#holds = holds;
  }

  /** Wakes the rings among the next ones that have requests. */
  look(): void {
    const { all } = this.#rings;
    for (let left = Math.min(RINGS, all.length); left > 0; left--) {
      if (this.#next >= all.length) this.#next = 0;
      const ring = all[this.#next++];
      if (!ring || !this.#barriers.mayTake(ring)) continue;
      if (ring.back.hasRequests(this.#holds.wakeAfter(ring))) this.#rings.wake(ring);
    }
  }
}
