import type { Start } from '../addon.js';
import type { BlockImage } from '../block-image.js';
import { guardedMemory } from '../queue/buffer.js';
import type { FileDescriptors } from '../queue/descriptors.js';
import { EngineQueue, type QueueOptions } from '../queue/engine-queue.js';
import type { PageCache } from './page-cache.js';
import type { RingMember, ThreadRing } from './thread-ring.js';

/** How a RingQueue reaches its image. */
export interface RingAccess {
  readonly ring: ThreadRing;
  readonly files: FileDescriptors;
  readonly blockDevice: boolean;
  /** Of an image that is read and written past the page cache. */
  readonly cache: PageCache | undefined;
}

/** A queue on a ring of the thread: one call of the addon a `submit`, and the addon fills the completion arrays. */
export class RingQueue extends EngineQueue implements RingMember {
  readonly #ring: ThreadRing;
  readonly #queue: number;
  readonly #start: Start;
  readonly #cache: PageCache | undefined;
  #iov: Float64Array;
  #delivered = 0;

  constructor(image: BlockImage, options: QueueOptions, { ring, files, blockDevice, cache }: RingAccess) {
    super(image, options, guardedMemory);
    this.#ring = ring;
    this.#cache = cache;
    this.#queue = ring.addon.queueOpen(
      ring.id,
      options.depth,
      files.main,
      files.buffered,
      blockDevice,
      this.tags,
      this.results,
    );
    this.#start = ring.addon.queueStarter(ring.id, this.#queue);
    this.#iov = this.staging.iov;
    ring.addon.queueStaging(ring.id, this.#queue, this.staging.operations, this.#iov);
    ring.addon.queueRegion(ring.id, this.#queue, 0, new Uint8Array(options.memory));
    ring.add(this.#queue, this);
  }

  override get completionFd(): number {
    return this.#ring.eventFd;
  }

  override addRegion(buffer: ArrayBufferLike): number {
    const region = super.addRegion(buffer);
    this.#ring.addon.queueRegion(this.#ring.id, this.#queue, region, new Uint8Array(buffer));
    return region;
  }

  override removeRegion(region: number): void {
    super.removeRegion(region);
    if (region > 0) this.#ring.addon.queueRegion(this.#ring.id, this.#queue, region, undefined);
  }

  override submit(polled = false): void {
    const { count, iov, operations } = this.staging;
    if (count === 0) return;
    if (iov !== this.#iov) {
      this.#iov = iov;
      this.#ring.addon.queueStaging(this.#ring.id, this.#queue, operations, iov);
    }
    this.staging.clear();
    if (polled) this.#ring.submitPolled(this.#start, count);
    else this.#ring.submit(this.#start, count);
    this.#cache?.used(count);
  }

  override poll(): number {
    this.#delivered = 0;
    this.#ring.poll();
    return this.#delivered;
  }

  completed(count: number): void {
    this.#delivered += count;
    this.deliver(count);
  }

  protected override release(): void {
    this.#ring.remove(this.#queue);
  }
}
