import { type BlockOp, type BlockQueue, IOV_WORDS, type SharedImage } from '../block-image.js';
import type { QueueOptions } from '../queue/engine-queue.js';
import { exactResult } from '../queue/exact-result.js';
import { LocalQueue } from '../queue/local-queue.js';
import { OpenQueues } from '../queue/open-queues.js';
import { ImageWrapper } from './image-wrapper.js';

/** One operation on its way through a wrapper. */
export interface WrappedOperation {
  readonly op: BlockOp;
  readonly tag: number;
  readonly offset: number;
  readonly length: number;
  /** Its scatter list. */
  readonly iov: Float64Array;
}

/** An operation of the inner queue. */
interface Performed {
  /** Bytes that it moves. */
  readonly expected: number;
  readonly done: (result: number) => void;
}

/** An image that changes what happens to the operations of another one. */
export abstract class OperationWrapper extends ImageWrapper {
  readonly #queues = new OpenQueues();

  override createQueue(options: QueueOptions): BlockQueue {
    return this.#queues.add(this.makeQueue(options));
  }

  protected abstract makeQueue(options: QueueOptions): WrapperQueue;

  /** The inner image may not have yet what was acknowledged here. */
  override get extents(): undefined {
    return undefined;
  }

  /** What a wrapper knows is this thread's. */
  override share(): SharedImage | undefined {
    return undefined;
  }

  protected override async closeOnce(): Promise<void> {
    await this.closeQueues();
    await super.closeOnce();
  }

  /** Operations may still wait in the wrapper's own queues. */
  protected closeQueues(): Promise<void> {
    return this.#queues.close();
  }
}

/** The queue of such an image. It makes objects per operation, as engines' own queues do not. */
export abstract class WrapperQueue extends LocalQueue {
  readonly inner: BlockQueue;
  /** By tag. Each operation has its own, so that what ends twice or late is not taken for another's end. */
  readonly #performed = new Map<number, Performed>();
  #nextTag = 0;

  /** `depth` operations of the inner queue are enough for those of this one. */
  constructor(image: OperationWrapper, options: QueueOptions, depth = options.depth) {
    super(image, options);
    this.inner = image.inner.createQueue({ depth, memory: options.memory });
    this.inner.onComplete((tags, results, count) => {
      for (let i = 0; i < count; i++) this.#finished(tags[i], results[i]);
      this.inner.submit();
      super.poll();
    });
  }

  /** What becomes of one operation: sooner or later `complete(operation.tag, …)`. */
  protected abstract beginWrapped(operation: WrappedOperation): void;

  override addRegion(buffer: ArrayBufferLike): number {
    // Both queues number their regions in the same way.
    this.inner.addRegion(buffer);
    return super.addRegion(buffer);
  }

  override removeRegion(region: number): void {
    super.removeRegion(region);
    this.inner.removeRegion(region);
  }

  override submit(): void {
    super.submit();
    this.inner.submit();
  }

  override poll(): number {
    // Completions of the inner queue are delivered from inside its own poll.
    const before = this.inFlight;
    this.inner.poll();
    return super.poll() + Math.max(0, before - this.inFlight);
  }

  giveUp(): void {
    this.inner.giveUp?.();
  }

  protected override begin(op: BlockOp, at: number): void {
    const { staging } = this;
    const iov = staging.iov.slice(staging.iovStart(at), staging.iovEnd(at));
    this.beginWrapped({
      op,
      tag: staging.tag(at),
      offset: staging.offset(at),
      length: staging.length(at),
      iov,
    });
  }

  /** Stages an operation of the inner queue; `done` gets its result. A caller outside of `beginWrapped` submits. */
  protected perform(operation: Omit<WrappedOperation, 'tag'>, done: (result: number) => void): void {
    const { op, offset, length, iov } = operation;
    const tag = this.#nextTag;
    this.#nextTag = (tag + 1) | 0;
    this.#performed.set(tag, { expected: iov.length > 0 ? length : 0, done });
    this.inner.push(op, tag, offset, length, iov, iov.length / IOV_WORDS);
  }

  protected override release(): Promise<void> {
    return this.inner.close();
  }

  #finished(tag: number, result: number): void {
    const performed = this.#performed.get(tag);
    if (!performed) return;
    this.#performed.delete(tag);
    performed.done(exactResult(performed.expected, result));
  }
}
