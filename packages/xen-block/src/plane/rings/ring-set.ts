import type { BlockRing } from './ring.js';

/**
 * The rings of a data plane, by index, and those of them that are awake. A ring that is awake is owed a pass: whoever
 * wakes one outside of a pass sees to it that one follows, and only the end of a pass sends rings to sleep.
 */
export class RingSet {
  readonly all: (BlockRing | undefined)[] = [];
  readonly awake: BlockRing[] = [];
  /** By index. */
  readonly #isAwake: boolean[] = [];

  get count(): number {
    return this.all.reduce((count, ring) => count + (ring ? 1 : 0), 0);
  }

  /** The index of the next ring to be added. */
  get freeIndex(): number {
    const free = this.all.indexOf(undefined);
    return free < 0 ? this.all.length : free;
  }

  has(ring: BlockRing): boolean {
    return this.all[ring.index] === ring;
  }

  add(ring: BlockRing): void {
    this.all[ring.index] = ring;
    this.#isAwake[ring.index] = false;
  }

  remove(ring: BlockRing): void {
    this.all[ring.index] = undefined;
    const at = this.awake.indexOf(ring);
    if (at >= 0) this.awake.splice(at, 1);
  }

  wake(ring: BlockRing): void {
    if (this.#isAwake[ring.index]) return;
    this.#isAwake[ring.index] = true;
    this.awake.push(ring);
  }

  /** Sends to sleep all rings of which `stays` is false; says whether none is left. */
  sleepUnless(stays: (ring: BlockRing) => boolean): boolean {
    const { awake } = this;
    let left = 0;
    for (let i = 0; i < awake.length; i++) {
      const ring = awake[i];
      if (stays(ring)) awake[left++] = ring;
      else this.#isAwake[ring.index] = false;
    }
    awake.length = left;
    return left === 0;
  }
}
