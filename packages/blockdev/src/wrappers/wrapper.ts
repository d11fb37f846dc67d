import {
  type BlockFeatures,
  type BlockImage,
  type BlockOp,
  type BlockQueue,
  IOV_WORDS,
  type SharedImage,
} from '../block-image.js';
import type { QueueOptions } from '../queue/engine-queue.js';
import { LocalQueue } from '../queue/local-queue.js';
import { OpenQueues } from '../queue/open-queues.js';
import { STAGED_WORDS, StagedWord } from '../queue/staging.js';

/** One operation on its way through a wrapper. */
export interface WrappedOperation {
  readonly op: BlockOp;
  readonly tag: number;
  readonly offset: number;
  readonly length: number;
  /** Its scatter list. */
  readonly iov: Float64Array;
}

/** An image that changes what happens to the operations of another one, which it owns. */
export abstract class ImageWrapper implements BlockImage {
  readonly inner: BlockImage;
  readonly #queues = new OpenQueues();
  #closing: Promise<void> | undefined;

  constructor(inner: BlockImage) {
    this.inner = inner;
  }

  createQueue(options: QueueOptions): BlockQueue {
    return this.#queues.add(this.makeQueue(options));
  }

  protected abstract makeQueue(options: QueueOptions): WrapperQueue;

  get engine(): string {
    return this.inner.engine;
  }
  get description(): string {
    return this.inner.description;
  }
  get size(): number {
    return this.inner.size;
  }
  get sectorSize(): number {
    return this.inner.sectorSize;
  }
  get physicalSectorSize(): number {
    return this.inner.physicalSectorSize;
  }
  get readOnly(): boolean {
    return this.inner.readOnly;
  }
  get features(): BlockFeatures {
    return this.inner.features;
  }

  refresh(): Promise<number> {
    return this.inner.refresh();
  }

  /** What a wrapper knows is this thread's. */
  share(): SharedImage | undefined {
    return undefined;
  }

  close(): Promise<void> {
    // Operations may still wait in the wrapper's own queues.
    this.#closing ??= this.#queues.close().then(() => this.inner.close());
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** The queue of such an image. It makes objects per operation, as engines' own queues do not. */
export abstract class WrapperQueue extends LocalQueue {
  readonly inner: BlockQueue;
  readonly #done: ((result: number) => void)[] = [];
  readonly #freeTags: number[] = [];

  /** `depth` operations of the inner queue are enough for those of this one. */
  constructor(image: ImageWrapper, options: QueueOptions, depth = options.depth) {
    super(image, options);
    this.inner = image.inner.createQueue({ depth, memory: options.memory });
    this.inner.onComplete((tags, results, count) => {
      for (let i = 0; i < count; i++) this.#finished(tags[i], results[i]);
      this.inner.submit();
      super.poll();
    });
  }

  /** What becomes of one operation: sooner or later `complete(operation.tag, …)`. */
  protected abstract begin(operation: WrappedOperation): void;

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
    const { operations, iov, count } = this.staging;
    for (let at = 0; at < count * STAGED_WORDS; at += STAGED_WORDS) {
      const op = operations[at + StagedWord.op];
      const tag = operations[at + StagedWord.tag];
      const first = operations[at + StagedWord.iovAt];
      if (op < 0) {
        this.complete(tag, op);
        continue;
      }
      this.begin({
        op: op as BlockOp,
        tag,
        offset: operations[at + StagedWord.offset],
        length: operations[at + StagedWord.length],
        iov: iov.slice(first, first + operations[at + StagedWord.iovCount] * IOV_WORDS),
      });
    }
    this.staging.clear();
    this.inner.submit();
  }

  override poll(): number {
    // Completions of the inner queue are delivered from inside its own poll.
    const before = this.inFlight;
    this.inner.poll();
    return super.poll() + Math.max(0, before - this.inFlight);
  }

  /** Stages an operation of the inner queue; `done` gets its result. Who is not called by `begin` submits. */
  protected perform(operation: Omit<WrappedOperation, 'tag'>, done: (result: number) => void): void {
    const tag = this.#freeTags.pop() ?? this.#done.length;
    this.#done[tag] = done;
    const { op, offset, length, iov } = operation;
    this.inner.push(op, tag, offset, length, iov, iov.length / IOV_WORDS);
  }

  protected override release(): Promise<void> {
    return this.inner.close();
  }

  #finished(tag: number, result: number): void {
    this.#freeTags.push(tag);
    this.#done[tag](result);
  }
}
