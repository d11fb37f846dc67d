import { allocateMemory, type BlockImage, BlockOp, type BlockQueue, IOV_WORDS } from '@xenpv/blockdev';
import { REPLAYED, type Replayed, type TracedOperations } from './trace-file.js';

/** What became of the operations of a kind. */
export interface Outcome {
  count: number;
  bytes: number;
  /** Of those that went well, microseconds. */
  readonly latencies: number[];
  /** By errno, positive. */
  readonly errors: Map<number, number>;
}

export interface Played {
  readonly outcomes: Readonly<Record<Replayed, Outcome>>;
  /** Milliseconds. */
  readonly took: number;
  /** Milliseconds: the most that an operation began later than it should have. */
  readonly latest: number;
}

export interface PlayOptions {
  /** In flight at once. */
  readonly depth: number;
  /** Times as quick as it was; undefined: as fast as possible. */
  readonly speed: number | undefined;
  readonly signal: AbortSignal;
}

const OPS: Readonly<Record<Replayed, BlockOp>> = {
  read: BlockOp.read,
  write: BlockOp.write,
  flush: BlockOp.flush,
  discard: BlockOp.discard,
};
/** The first half is read to by all, the second has what is written. */
const HALF = 16 * 1024 * 1024;
/** Begun in one turn of the event loop. */
const MOST_AT_ONCE = 256;

/** Gives operations to an image, at their times or as fast as they go. */
export class Player {
  readonly #operations: TracedOperations;
  readonly #queue: BlockQueue;
  readonly #options: PlayOptions;
  readonly #iov = new Float64Array(IOV_WORDS);
  readonly #outcomes: Record<Replayed, Outcome>;
  /** By tag: which operation, and when it began. */
  readonly #operationOf: Int32Array;
  readonly #beganAt: Float64Array;
  readonly #free: number[];
  #next = 0;
  #latest = 0;
  #start = 0;
  #timer: NodeJS.Timeout | undefined;
  #immediate = false;
  #done: () => void = () => {};

  constructor(image: BlockImage, operations: TracedOperations, options: PlayOptions) {
    const { depth } = options;
    this.#operations = operations;
    this.#options = options;
    const memory = allocateMemory(2 * HALF);
    fillPattern(new Uint32Array(memory, HALF, HALF / 4));
    this.#queue = image.createQueue({ depth, memory });
    this.#queue.onComplete((tags, results, count) => this.#completed(tags, results, count));
    this.#operationOf = new Int32Array(depth);
    this.#beganAt = new Float64Array(depth);
    this.#free = Array.from({ length: depth }, (_, i) => depth - 1 - i);
    const outcome = (): Outcome => ({ count: 0, bytes: 0, latencies: [], errors: new Map() });
    this.#outcomes = { read: outcome(), write: outcome(), flush: outcome(), discard: outcome() };
  }

  /** Resolves when all is done, or what had begun when the signal was aborted. */
  async play(): Promise<Played> {
    const { signal } = this.#options;
    this.#start = performance.now();
    await new Promise<void>((resolve) => {
      this.#done = resolve;
      signal.addEventListener('abort', () => this.#go(), { once: true });
      this.#go();
    });
    clearTimeout(this.#timer);
    const took = performance.now() - this.#start;
    await this.#queue.close();
    return { outcomes: this.#outcomes, took, latest: this.#latest };
  }

  #go(): void {
    const { count } = this.#operations;
    if (this.#options.signal.aborted) this.#next = count;
    let begun = 0;
    while (this.#next < count && this.#free.length > 0 && begun < MOST_AT_ONCE) {
      const early = this.#early();
      if (early > 0) {
        this.#wait(early);
        break;
      }
      this.#begin(this.#next++);
      begun++;
    }
    if (begun > 0) this.#queue.submit();
    if (begun === MOST_AT_ONCE) this.#later();
    if (this.#next >= count && this.#queue.inFlight === 0) this.#done();
  }

  /** Milliseconds until the next operation is due; notes how late it is. */
  #early(): number {
    const { speed } = this.#options;
    if (speed === undefined) return 0;
    const { time } = this.#operations;
    const due = this.#start + (time[this.#next] - time[0]) / 1000 / speed;
    const early = due - performance.now();
    this.#latest = Math.max(this.#latest, -early);
    return early;
  }

  #wait(milliseconds: number): void {
    if (milliseconds < 1) {
      this.#later();
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#go(), Math.min(milliseconds, 2 ** 30));
  }

  #later(): void {
    if (this.#immediate) return;
    this.#immediate = true;
    setImmediate(() => {
      this.#immediate = false;
      this.#go();
    });
  }

  #begin(index: number): void {
    const { kind, offset, length } = this.#operations;
    const name = REPLAYED[kind[index]];
    const tag = this.#free.pop() as number;
    this.#operationOf[tag] = index;
    this.#beganAt[tag] = performance.now();
    const hasData = name === 'read' || name === 'write';
    this.#iov[1] = name === 'write' ? HALF : 0;
    this.#iov[2] = length[index];
    this.#queue.push(OPS[name], tag, offset[index], length[index], this.#iov, hasData ? 1 : 0);
  }

  #completed(tags: Int32Array, results: Int32Array, count: number): void {
    const now = performance.now();
    const { kind, length } = this.#operations;
    for (let i = 0; i < count; i++) {
      const index = this.#operationOf[tags[i]];
      const outcome = this.#outcomes[REPLAYED[kind[index]]];
      outcome.count++;
      if (results[i] < 0) outcome.errors.set(-results[i], (outcome.errors.get(-results[i]) ?? 0) + 1);
      else {
        outcome.bytes += length[index];
        outcome.latencies.push((now - this.#beganAt[tags[i]]) * 1000);
      }
      this.#free.push(tags[i]);
    }
    this.#go();
  }
}

/** What no storage can compress or deduplicate by itself: another word in each place (xorshift32). */
function fillPattern(words: Uint32Array): void {
  let value = 0x9e3779b9;
  for (let i = 0; i < words.length; i++) {
    value ^= value << 13;
    value ^= value >>> 17;
    value ^= value << 5;
    words[i] = value;
  }
}
