import type { BlockImage } from '../block-image.js';
import type { QueueOptions } from '../queue/engine-queue.js';
import { OperationWrapper, type WrappedOperation, WrapperQueue } from './wrapper-queue.js';

/** Averages that an image keeps to, over all its queues. */
export interface ThrottleLimits {
  /** Operations of every kind; no limit unless given. */
  readonly operationsPerSecond?: number | undefined;
  /** Bytes of reads and writes; no limit unless given. */
  readonly bytesPerSecond?: number | undefined;
  /** Seconds of that which may be used at once after a quiet time; 0.1 unless given. */
  readonly burst?: number | undefined;
}

/** Delays operations on `inner` so that they stay below the limits. It owns `inner`. */
export function throttledImage(inner: BlockImage, limits: ThrottleLimits): BlockImage {
  return new ThrottledImage(inner, limits);
}

class ThrottledImage extends OperationWrapper {
  readonly #limits: ThrottleLimits;
  /** When all that was admitted would be done at exactly the limits, in milliseconds of performance.now(). */
  #busyUntil = 0;

  constructor(inner: BlockImage, limits: ThrottleLimits) {
    super(inner);
    this.#limits = limits;
  }

  protected override makeQueue(options: QueueOptions): WrapperQueue {
    return new ThrottledQueue(this, options);
  }

  /** Milliseconds that an operation has to wait. */
  admit(bytes: number): number {
    const { operationsPerSecond = Infinity, bytesPerSecond = Infinity, burst = 0.1 } = this.#limits;
    const now = performance.now();
    const start = Math.max(now - burst * 1000, this.#busyUntil);
    this.#busyUntil = start + 1000 * Math.max(1 / operationsPerSecond, bytes / bytesPerSecond);
    return Math.max(0, start - now);
  }
}

class ThrottledQueue extends WrapperQueue {
  readonly #image: ThrottledImage;

  constructor(image: ThrottledImage, options: QueueOptions) {
    super(image, options);
    this.#image = image;
  }

  protected override beginWrapped(operation: WrappedOperation): void {
    const wait = this.#image.admit(operation.iov.length > 0 ? operation.length : 0);
    const go = () => this.perform(operation, (result) => this.complete(operation.tag, result));
    if (wait === 0) {
      go();
      return;
    }
    setTimeout(() => {
      go();
      this.inner.submit();
    }, wait);
  }
}
