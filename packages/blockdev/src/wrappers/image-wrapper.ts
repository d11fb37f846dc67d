import type { BlockFeatures, BlockImage, BlockQueue, RefreshOptions, SharedImage } from '../block-image.js';
import type { QueueOptions } from '../queue/engine-queue.js';

/**
 * An image that stands for another one, which it owns: everything is the inner image's but what a subclass overrides.
 * A subclass that has more to close overrides `closeOnce`, which runs once however often `close` is called.
 */
export class ImageWrapper implements BlockImage {
  /** The image that this one stands for, and closes. */
  readonly inner: BlockImage;
  #closing: Promise<void> | undefined;

  constructor(inner: BlockImage) {
    this.inner = inner;
  }

  get engine(): string {
    return this.inner.engine;
  }
  get description(): string {
    return this.inner.description;
  }
  get identity(): string | undefined {
    return this.inner.identity;
  }
  get size(): number {
    return this.inner.size;
  }
  get sectorSize(): number {
    return this.inner.sectorSize;
  }
  /** As that of the image within. */
  get physicalSectorSize(): number {
    return this.inner.physicalSectorSize;
  }
  /** As that of the image within. */
  get readOnly(): boolean {
    return this.inner.readOnly;
  }
  /** As those of the image within. */
  get features(): BlockFeatures {
    return this.inner.features;
  }

  createQueue(options: QueueOptions): BlockQueue {
    return this.inner.createQueue(options);
  }

  refresh(options?: RefreshOptions): Promise<number> {
    return this.inner.refresh(options);
  }

  get growsUnseen(): boolean | undefined {
    return this.inner.growsUnseen;
  }

  get resize(): ((bytes: number) => Promise<void>) | undefined {
    return this.inner.resize?.bind(this.inner);
  }

  get settle(): ((ms: number) => Promise<boolean>) | undefined {
    return this.inner.settle?.bind(this.inner);
  }

  get extents(): BlockImage['extents'] {
    return this.inner.extents?.bind(this.inner);
  }

  /** The inner image, without the wrapper, on another thread. A wrapper that matters there returns undefined. */
  share(): SharedImage | undefined {
    return this.inner.share();
  }

  close(): Promise<void> {
    this.#closing ??= this.closeOnce();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Closes the inner image. */
  protected closeOnce(): Promise<void> {
    return this.inner.close();
  }
}
