import {
  type BlockImage,
  BlockOp,
  type BlockQueue,
  type CompletionListener,
  ImageWrapper,
  QueueWrapper,
} from '@xenpv/blockdev';
import { Random } from '../../program/random.js';

const EIO = -5;
/** One operation in so many fails, or is answered with a length that is not its own. */
const ODD_ONE_IN = 200;
/** One operation in so many hangs, for so many milliseconds at most. */
const HANGS_ONE_IN = 3000;
const HANGS_MS = 400;
/** One operation in so many is told to have ended twice. */
const TWICE_ONE_IN = 500;

/** Storage that ends operations late and in any order, several or one at a time, hangs, fails some and lies about others. */
export class OddImage extends ImageWrapper {
  readonly #random: Random;

  constructor(inner: BlockImage, seed: number) {
    super(inner);
    this.#random = new Random(seed);
  }

  override createQueue(options: { depth: number; memory: ArrayBufferLike }): BlockQueue {
    return new OddQueue(this.inner.createQueue(options), this.#random);
  }

  override share(): undefined {
    return undefined;
  }
}

interface Ended {
  readonly tag: number;
  readonly result: number;
  readonly again: boolean;
}

class OddQueue extends QueueWrapper {
  readonly #random: Random;
  #listener: CompletionListener = () => {};
  #held: Ended[] = [];
  #failing: number[] = [];
  #inFlight = 0;
  #scheduled = false;
  #whenIdle: (() => void)[] = [];

  constructor(inner: BlockQueue, random: Random) {
    super(inner);
    this.#random = random;
    inner.onComplete((tags, results, count) => {
      for (let i = 0; i < count; i++) this.#end(tags[i], results[i]);
      this.#schedule();
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
    if (this.#inFlight === this.depth) return false;
    this.#inFlight++;
    if (op !== BlockOp.flush && this.#random.oneIn(2 * ODD_ONE_IN)) {
      this.#failing.push(tag);
      return true;
    }
    return this.inner.push(op, tag, offset, length, iov, iovCount);
  }

  override submit(): void {
    this.inner.submit();
    for (const tag of this.#failing.splice(0)) this.#held.push({ tag, result: EIO, again: false });
    if (this.#held.length > 0) this.#schedule();
  }

  /** Sometimes it has something, sometimes not. */
  override poll(): number {
    this.inner.poll();
    return this.#random.oneIn(2) ? this.#deliver() : 0;
  }

  override onComplete(listener: CompletionListener): void {
    this.#listener = listener;
  }

  override async close(): Promise<void> {
    if (this.#inFlight > 0) await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
    await super.close();
  }

  /** What storage says of an operation that has ended. */
  #end(tag: number, result: number): void {
    const random = this.#random;
    const wrong = [0, 1, 511, result - 512, result + 512, 2 ** 31 - 1, -(2 ** 31), -4096, -1];
    const said = random.oneIn(2 * ODD_ONE_IN) ? random.pick(wrong) : result;
    const ended = { tag, result: said, again: false };
    if (random.oneIn(HANGS_ONE_IN)) {
      setTimeout(() => {
        this.#held.push(ended);
        this.#schedule();
      }, random.below(HANGS_MS));
    } else {
      this.#held.push(ended);
    }
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    const deliver = () => {
      this.#scheduled = false;
      this.#deliver();
      if (this.#held.length > 0) this.#schedule();
    };
    if (this.#random.oneIn(8)) setTimeout(deliver, this.#random.from(1, 5));
    else setImmediate(deliver);
  }

  #deliver(): number {
    const count = this.#random.from(Math.min(1, this.#held.length), this.#held.length);
    const going = Array.from({ length: count }, () => this.#held.splice(this.#random.below(this.#held.length), 1)[0]);
    if (count === 0) return 0;
    this.#inFlight -= going.filter(({ again }) => !again).length;
    this.#listener(
      Int32Array.from(going, ({ tag }) => tag),
      Int32Array.from(going, ({ result }) => result),
      count,
    );
    const again = going.filter((ended) => !ended.again && this.#random.oneIn(TWICE_ONE_IN));
    for (const ended of again) this.#held.push({ ...ended, again: true });
    if (this.#inFlight === 0) for (const resolve of this.#whenIdle.splice(0)) resolve();
    return count;
  }
}
