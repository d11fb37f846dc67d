import {
  type BlockOp,
  type BlockQueue,
  type CompletionListener,
  ImageWrapper,
  IOV_WORDS,
  QueueWrapper,
} from '@xenpv/blockdev';

/** What reached the storage: operation, offset, length and number of pieces. */
export interface GateEntry {
  readonly op: BlockOp;
  readonly offset: number;
  readonly length: number;
  readonly pieces: number;
}

interface Held {
  readonly queue: GatedQueue;
  readonly tag: number;
  readonly entry: GateEntry;
  readonly iov: Float64Array;
}

/**
 * An image whose operations wait until a test lets them go, one by one or all, in any order, and which writes down
 * what came. `fail` decides which of them fail instead.
 */
export class GatedImage extends ImageWrapper {
  readonly log: GateEntry[] = [];
  readonly held: Held[] = [];
  /** All that were ever made. */
  readonly queues: BlockQueue[] = [];
  /** When true nothing waits. */
  open = false;
  /** A negative errno for an operation that is to fail, otherwise 0. */
  fail: (entry: GateEntry) => number = () => 0;

  override get engine(): string {
    return 'gated';
  }

  override get description(): string {
    return 'gated';
  }

  override createQueue(options: { depth: number; memory: ArrayBufferLike }): BlockQueue {
    const queue = new GatedQueue(this, this.inner.createQueue(options));
    this.queues.push(queue);
    return queue;
  }

  override share(): undefined {
    return undefined;
  }

  protected override async closeOnce(): Promise<void> {
    await Promise.all(this.queues.map((queue) => queue.close()));
    await super.closeOnce();
  }

  /** Lets the held operations go, or only those that `which` picks. */
  release(which: (entry: GateEntry) => boolean = () => true): void {
    const going = this.held.filter((held) => which(held.entry));
    for (const held of going) {
      this.held.splice(this.held.indexOf(held), 1);
      held.queue.carryOut(held);
    }
  }

  arrived(held: Held): void {
    this.log.push(held.entry);
    this.held.push(held);
    if (this.open) setImmediate(() => this.release());
  }
}

class GatedQueue extends QueueWrapper {
  readonly #image: GatedImage;
  readonly #staged: Held[] = [];
  #listener: CompletionListener = () => {};
  #inFlight = 0;
  readonly #whenIdle: (() => void)[] = [];

  constructor(image: GatedImage, inner: BlockQueue) {
    super(inner);
    this.#image = image;
    inner.onComplete((tags, results, count) => {
      this.#end(tags, results, count);
    });
  }

  override get completionFd(): number {
    return -1;
  }
  override get inFlight(): number {
    return this.#inFlight;
  }

  override push(
    op: BlockOp,
    tag: number,
    offset: number,
    length: number,
    iov: Float64Array,
    iovCount: number,
  ): boolean {
    const entry = { op, offset, length, pieces: iovCount };
    this.#staged.push({ queue: this, tag, entry, iov: iov.slice(0, iovCount * IOV_WORDS) });
    this.#inFlight++;
    return true;
  }

  override submit(): void {
    for (const held of this.#staged.splice(0)) this.#image.arrived(held);
  }

  override poll(): number {
    return 0;
  }

  override onComplete(listener: CompletionListener): void {
    this.#listener = listener;
  }

  #end(tags: Int32Array, results: Int32Array, count: number): void {
    this.#inFlight -= count;
    this.#listener(tags, results, count);
    if (this.#inFlight === 0) for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  carryOut({ tag, entry, iov }: Held): void {
    const error = this.#image.fail(entry);
    if (error < 0) {
      this.#end(Int32Array.of(tag), Int32Array.of(error), 1);
      return;
    }
    this.inner.push(entry.op, tag, entry.offset, entry.length, iov, entry.pieces);
    this.inner.submit();
    this.inner.poll();
  }

  override async close(): Promise<void> {
    if (this.#inFlight > 0) await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
    await super.close();
  }
}
