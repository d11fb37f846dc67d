import type { BlockImage, BlockOp, BlockQueue, CompletionListener } from '../block-image.js';
import { ImageWrapper } from '../wrappers/image-wrapper.js';
import { QueueWrapper } from '../wrappers/queue-wrapper.js';

/** What is said of one operation's end. */
export interface Misreport {
  /** The results that it ends with, one after the other: none for one that never ends. */
  readonly results: readonly number[];
  /** Results that it ends with once more, when the next operation of its queue ends. */
  readonly late?: readonly number[] | undefined;
}

/** Decides about each operation that has ended, in that order; undefined leaves it alone. */
export type MisreportPlan = (operation: {
  readonly op: BlockOp;
  readonly length: number;
  /** The true one. */
  readonly result: number;
}) => Misreport | undefined;

/**
 * An image whose engine lies about how its operations ended: too few bytes, too many, none, odd numbers, twice, late.
 * It owns `inner`. For tests of those who use engines.
 */
export function misreportingImage(inner: BlockImage, plan: MisreportPlan): BlockImage {
  return new MisreportingImage(inner, plan);
}

class MisreportingImage extends ImageWrapper {
  readonly #plan: MisreportPlan;

  constructor(inner: BlockImage, plan: MisreportPlan) {
    super(inner);
    this.#plan = plan;
  }

  override createQueue(options: { depth: number; memory: ArrayBufferLike }): BlockQueue {
    return new MisreportingQueue(this.inner.createQueue(options), this.#plan);
  }

  override share(): undefined {
    return undefined;
  }
}

class MisreportingQueue extends QueueWrapper {
  readonly #operations = new Map<number, { readonly op: BlockOp; readonly length: number }>();
  #listener: CompletionListener = () => {};
  /** Tags and results. */
  #late: [number, number][] = [];

  constructor(inner: BlockQueue, plan: MisreportPlan) {
    super(inner);
    inner.onComplete((tags, results, count) => {
      const told = this.#late.splice(0);
      for (let i = 0; i < count; i++) {
        const [tag, result] = [tags[i], results[i]];
        const operation = this.#operations.get(tag);
        const report = operation && plan({ ...operation, result });
        for (const said of report?.results ?? [result]) told.push([tag, said]);
        for (const said of report?.late ?? []) this.#late.push([tag, said]);
      }
      this.#listener(
        Int32Array.from(told, ([tag]) => tag),
        Int32Array.from(told, ([, result]) => result),
        told.length,
      );
    });
  }

  override push(
    op: BlockOp,
    tag: number,
    offset: number,
    length: number,
    iov: Float64Array,
    iovCount: number,
  ): boolean {
    this.#operations.set(tag, { op, length });
    return super.push(op, tag, offset, length, iov, iovCount);
  }

  override onComplete(listener: CompletionListener): void {
    this.#listener = listener;
  }
}
