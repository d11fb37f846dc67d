import type { BlockQueue } from '@xenpv/blockdev';

/** The regions by which a queue knows mapped memory: each buffer is added once, however many requests are in it. */
export class RegionCache {
  readonly #queue: BlockQueue;
  readonly #regions = new Map<ArrayBufferLike, { readonly region: number; users: number }>();

  constructor(queue: BlockQueue) {
    this.#queue = queue;
  }

  take(buffer: ArrayBufferLike): number {
    const known = this.#regions.get(buffer);
    if (known) {
      known.users++;
      return known.region;
    }
    const region = this.#queue.addRegion(buffer);
    this.#regions.set(buffer, { region, users: 1 });
    return region;
  }

  give(buffer: ArrayBufferLike): void {
    const known = this.#regions.get(buffer)!;
    if (--known.users > 0) return;
    this.#regions.delete(buffer);
    this.#queue.removeRegion(known.region);
  }
}
