import {
  type BlockImage,
  BlockOp,
  type BlockQueue,
  type CompletionListener,
  ImageWrapper,
  QueueWrapper,
  type SharedImage,
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

/** One operation in so many hangs for long, between so many milliseconds, where storage hangs. */
const HANGS_LONG_ONE_IN = 400;
const LONG_MS = { least: 300, most: 2000 } as const;

/** In which ways storage is odd. */
export interface Oddities {
  readonly seed: number;
  /** It ends operations late and in any order, several or one at a time, fails some and lies about others. */
  readonly odd: boolean;
  /** Some operations are answered seconds later: for longer than anybody waits for them. */
  readonly hangs: boolean;
}

/** What a thread makes the same storage of. */
export interface SharedOddImage {
  readonly inner: SharedImage;
  readonly oddities: Oddities;
}

/** Storage that does what it is asked for, but does not say so as it should. */
export class OddImage extends ImageWrapper {
  /** Resolves when it is closed: whoever opens the same storage again finds all of it done. */
  readonly closed: Promise<void>;
  readonly #random: Random;
  readonly #oddities: Oddities;
  readonly #queues = new Set<OddQueue>();
  #isClosed: () => void = () => {};

  constructor(inner: BlockImage, oddities: Oddities) {
    super(inner);
    this.#oddities = oddities;
    this.#random = new Random(oddities.seed);
    this.closed = new Promise((resolve) => {
      this.#isClosed = resolve;
    });
  }

  override createQueue(options: { depth: number; memory: ArrayBufferLike }): BlockQueue {
    const queue = new OddQueue(this.inner.createQueue(options), this.#random, this.#oddities);
    this.#queues.add(queue);
    return queue;
  }

  /** With the same oddities on another thread. */
  override share(): SharedImage | undefined {
    const inner = this.inner.share();
    if (inner === undefined) return undefined;
    const data: SharedOddImage = { inner, oddities: this.#oddities };
    return { module: new URL('./threads/odd-image.js', import.meta.url).href, data };
  }

  /**
   * The process that uses it has ended, with operations in flight: from now on it says nothing. Resolves when they are done
   * and whatever it had open is closed, with how many they were.
   */
  async die(): Promise<number> {
    for (const queue of this.#queues) queue.die();
    const inFlight = [...this.#queues].reduce((sum, queue) => sum + queue.inFlight, 0);
    await Promise.all([...this.#queues].map((queue) => queue.closeInner()));
    await this.inner.close();
    this.#isClosed();
    return inFlight;
  }

  /** What was not told since {@link die}, so that what waits for it may end: by now nobody is there to be told wrongly. */
  bury(): void {
    for (const queue of this.#queues) queue.bury();
  }

  protected override async closeOnce(): Promise<void> {
    await super.closeOnce();
    this.#isClosed();
  }
}

interface Ended {
  readonly tag: number;
  readonly result: number;
  readonly again: boolean;
}

class OddQueue extends QueueWrapper {
  readonly #random: Random;
  readonly #oddities: Oddities;
  #listener: CompletionListener = () => {};
  #dead = false;
  #closingInner: Promise<void> | undefined;
  /** Of a queue that is dead: what was in flight. */
  readonly #tags = new Set<number>();
  #held: Ended[] = [];
  #failing: number[] = [];
  #inFlight = 0;
  #scheduled = false;
  #whenIdle: (() => void)[] = [];

  constructor(inner: BlockQueue, random: Random, oddities: Oddities) {
    super(inner);
    this.#random = random;
    this.#oddities = oddities;
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
    this.#tags.add(tag);
    if (this.#dead) return true;
    if (this.#oddities.odd && op !== BlockOp.flush && this.#random.oneIn(2 * ODD_ONE_IN)) {
      this.#failing.push(tag);
      return true;
    }
    return this.inner.push(op, tag, offset, length, iov, iovCount);
  }

  override removeRegion(region: number): void {
    if (!this.#dead) super.removeRegion(region);
  }

  override submit(): void {
    if (this.#dead) return;
    this.inner.submit();
    for (const tag of this.#failing.splice(0)) this.#held.push({ tag, result: EIO, again: false });
    if (this.#held.length > 0) this.#schedule();
  }

  /** Sometimes it has something, sometimes not. */
  override poll(): number {
    if (this.#dead) return 0;
    this.inner.poll();
    return this.#random.oneIn(2) ? this.#deliver() : 0;
  }

  override onComplete(listener: CompletionListener): void {
    this.#listener = listener;
  }

  override async close(): Promise<void> {
    if (this.#inFlight > 0) await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
    await this.closeInner();
  }

  closeInner(): Promise<void> {
    this.#closingInner ??= super.close();
    return this.#closingInner;
  }

  die(): void {
    this.#dead = true;
  }

  bury(): void {
    const tags = [...this.#tags];
    this.#tags.clear();
    this.#inFlight = 0;
    if (tags.length > 0) this.#listener(Int32Array.from(tags), new Int32Array(tags.length).fill(EIO), tags.length);
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  /** What storage says of an operation that has ended. */
  #end(tag: number, result: number): void {
    const random = this.#random;
    const { odd, hangs } = this.#oddities;
    const wrong = [0, 1, 511, result - 512, result + 512, 2 ** 31 - 1, -(2 ** 31), -4096, -1];
    const said = odd && random.oneIn(2 * ODD_ONE_IN) ? random.pick(wrong) : result;
    const ended = { tag, result: said, again: false };
    if (hangs && random.oneIn(HANGS_LONG_ONE_IN)) this.#hold(ended, random.from(LONG_MS.least, LONG_MS.most));
    else if (odd && random.oneIn(HANGS_ONE_IN)) this.#hold(ended, random.below(HANGS_MS));
    else this.#held.push(ended);
  }

  #hold(ended: Ended, milliseconds: number): void {
    setTimeout(() => {
      this.#held.push(ended);
      this.#schedule();
    }, milliseconds);
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
    if (this.#dead) return 0;
    const count = this.#random.from(Math.min(1, this.#held.length), this.#held.length);
    const going = Array.from({ length: count }, () => this.#held.splice(this.#random.below(this.#held.length), 1)[0]);
    if (count === 0) return 0;
    for (const { again, tag } of going) {
      if (again) continue;
      this.#inFlight--;
      this.#tags.delete(tag);
    }
    this.#listener(
      Int32Array.from(going, ({ tag }) => tag),
      Int32Array.from(going, ({ result }) => result),
      count,
    );
    const again = going.filter((ended) => this.#oddities.odd && !ended.again && this.#random.oneIn(TWICE_ONE_IN));
    for (const ended of again) this.#held.push({ ...ended, again: true });
    if (this.#inFlight === 0) for (const resolve of this.#whenIdle.splice(0)) resolve();
    return count;
  }
}
