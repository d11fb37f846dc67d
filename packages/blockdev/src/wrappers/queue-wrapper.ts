import type { BlockOp, BlockQueue, CompletionListener } from '../block-image.js';

/**
 * A queue that stands for another one, which it owns: everything is the inner queue's but what a subclass overrides. One
 * that ends operations itself has no `completionFd`, since the inner queue's tells nothing of those.
 */
export class QueueWrapper implements BlockQueue {
  /** The queue that this one stands for, and closes. */
  readonly inner: BlockQueue;

  constructor(inner: BlockQueue) {
    this.inner = inner;
  }

  get depth(): number {
    return this.inner.depth;
  }
  get memory(): ArrayBufferLike {
    return this.inner.memory;
  }
  get inFlight(): number {
    return this.inner.inFlight;
  }
  get completionFd(): number {
    return this.inner.completionFd;
  }

  addRegion(buffer: ArrayBufferLike): number {
    return this.inner.addRegion(buffer);
  }

  /** Forgets a region, here and in the queue within. */
  removeRegion(region: number): void {
    this.inner.removeRegion(region);
  }

  push(op: BlockOp, tag: number, offset: number, length: number, iov: Float64Array, iovCount: number): boolean {
    return this.inner.push(op, tag, offset, length, iov, iovCount);
  }

  submit(polled?: boolean): void {
    this.inner.submit(polled);
  }

  poll(): number {
    return this.inner.poll();
  }

  onComplete(listener: CompletionListener): void {
    this.inner.onComplete(listener);
  }

  giveUp(): void {
    this.inner.giveUp?.();
  }

  close(): Promise<void> {
    return this.inner.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
