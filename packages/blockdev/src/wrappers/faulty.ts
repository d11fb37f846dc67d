import { type BlockImage, BlockOp, IOV_WORDS } from '../block-image.js';
import type { QueueOptions } from '../queue/engine-queue.js';
import { OperationWrapper, type WrappedOperation, WrapperQueue } from './wrapper-queue.js';

/** What shall go wrong with one operation. */
export interface Fault {
  /** The result that it ends with instead of its own: a negative errno. It is not performed, but for `torn`. */
  readonly result?: number | undefined;
  /** Bytes of a write that reach the image although it fails: whole sectors. */
  readonly torn?: number | undefined;
  /** Milliseconds before anything happens. */
  readonly delay?: number | undefined;
}

/** Decides about each operation, in the order of submission: `index` counts them from 0. Undefined leaves it alone. */
export type FaultPlan = (operation: {
  readonly op: BlockOp;
  readonly offset: number;
  readonly length: number;
  readonly index: number;
}) => Fault | undefined;

/** Makes operations on `inner` fail, tear or lag as `plan` says. It owns `inner`. For tests. */
export function faultyImage(inner: BlockImage, plan: FaultPlan): BlockImage {
  return new FaultyImage(inner, plan);
}

class FaultyImage extends OperationWrapper {
  readonly #plan: FaultPlan;
  #index = 0;

  constructor(inner: BlockImage, plan: FaultPlan) {
    super(inner);
    this.#plan = plan;
  }

  protected override makeQueue(options: QueueOptions): WrapperQueue {
    return new FaultyQueue(this, options);
  }

  decide({ op, offset, length }: WrappedOperation): Fault | undefined {
    return this.#plan({ op, offset, length, index: this.#index++ });
  }
}

class FaultyQueue extends WrapperQueue {
  readonly #image: FaultyImage;

  constructor(image: FaultyImage, options: QueueOptions) {
    super(image, options);
    this.#image = image;
  }

  protected override beginWrapped(operation: WrappedOperation): void {
    const fault = this.#image.decide(operation);
    if (!fault?.delay) {
      this.#do(operation, fault);
      return;
    }
    setTimeout(() => {
      this.#do(operation, fault);
      this.inner.submit();
    }, fault.delay);
  }

  #do(operation: WrappedOperation, fault: Fault | undefined): void {
    const { tag, op } = operation;
    const failure = fault?.result;
    if (failure === undefined) {
      this.perform(operation, (result) => this.complete(tag, result));
    } else if (fault?.torn && (op === BlockOp.write || op === BlockOp.writeFua)) {
      this.perform(cut(operation, fault.torn), () => this.complete(tag, failure));
    } else {
      this.complete(tag, failure);
    }
  }
}

/** The first `length` bytes of a write. */
function cut({ op, offset, iov }: WrappedOperation, length: number): Omit<WrappedOperation, 'tag'> {
  const kept: number[] = [];
  let left = length;
  for (let at = 0; left > 0 && at < iov.length; at += IOV_WORDS) {
    const bytes = Math.min(left, iov[at + 2]);
    kept.push(iov[at], iov[at + 1], bytes);
    left -= bytes;
  }
  return { op, offset, length: length - left, iov: Float64Array.from(kept) };
}
