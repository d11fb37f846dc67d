import {
  type BlockImage,
  type BlockOp,
  type BlockQueue,
  type CompletionListener,
  ImageWrapper,
  QueueWrapper,
} from '@xenpv/blockdev';
import { inOptions, type Planted } from './planted.js';

/** An operation as it is handed on. */
export interface Operation {
  op: BlockOp;
  offset: number;
  length: number;
  /** Not to be done, but to end with this. */
  ends?: number;
  /** To end so many milliseconds later. */
  after?: number;
}

/** Changes operations on their way to the storage of each disk; `n` counts them. */
export function inEngine(change: (operation: Operation, target: string, n: number) => void): Planted {
  let n = 0;
  return inOptions((options) => ({
    ...options,
    openImage: async (config, opening) => {
      const image = await options.openImage?.(config, opening);
      if (image === undefined) throw new Error('the backend opens images by itself');
      return new TamperedImage(image, (operation) => change(operation, config.target, ++n));
    },
  }));
}

type Change = (operation: Operation) => void;

class TamperedImage extends ImageWrapper {
  readonly #change: Change;

  constructor(inner: BlockImage, change: Change) {
    super(inner);
    this.#change = change;
  }

  override createQueue(options: { depth: number; memory: ArrayBufferLike }): BlockQueue {
    return new TamperedQueue(this.inner.createQueue(options), this.#change);
  }

  override share(): undefined {
    return undefined;
  }
}

class TamperedQueue extends QueueWrapper {
  readonly #change: Change;
  #listener: CompletionListener = () => {};
  readonly #late = new Map<number, number>();
  #pretended = 0;
  #whenDone: () => void = () => {};

  constructor(inner: BlockQueue, change: Change) {
    super(inner);
    this.#change = change;
  }

  override get completionFd(): number {
    return -1;
  }
  override get inFlight(): number {
    return this.inner.inFlight + this.#pretended;
  }

  override push(
    op: BlockOp,
    tag: number,
    offset: number,
    length: number,
    iov: Float64Array,
    iovCount: number,
  ): boolean {
    const operation: Operation = { op, offset, length };
    this.#change(operation);
    const { ends, after } = operation;
    if (after !== undefined) this.#late.set(tag, after);
    if (ends === undefined)
      return this.inner.push(operation.op, tag, operation.offset, operation.length, iov, iovCount);
    this.#endLater(tag, ends, 0);
    return true;
  }

  #endLater(tag: number, result: number, milliseconds: number): void {
    this.#pretended++;
    setTimeout(() => {
      this.#pretended--;
      this.#listener(Int32Array.of(tag), Int32Array.of(result), 1);
      if (this.#pretended === 0) this.#whenDone();
    }, milliseconds);
  }

  override onComplete(listener: CompletionListener): void {
    this.#listener = listener;
    this.inner.onComplete((tags, results, count) => {
      if (this.#late.size === 0) listener(tags, results, count);
      else
        for (let i = 0; i < count; i++) {
          const late = this.#late.get(tags[i]);
          this.#late.delete(tags[i]);
          if (late === undefined) listener(tags.slice(i), results.slice(i), 1);
          else this.#endLater(tags[i], results[i], late);
        }
    });
  }

  override async close(): Promise<void> {
    if (this.#pretended > 0) {
      await new Promise<void>((resolve) => {
        this.#whenDone = resolve;
      });
    }
    await super.close();
  }
}
