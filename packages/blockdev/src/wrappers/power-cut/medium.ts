import { type BlockImage, BlockOp, type BlockQueue } from '../../block-image.js';
import { allocateMemory } from '../../queue/buffer.js';
import { exactResult } from '../../queue/exact-result.js';
import type { CachedChange } from './write-cache.js';

const MEMORY_BYTES = 1 << 20;
const NO_IOV = new Float64Array(0);

/** The image below a cache, which gets what the cache writes out: one thing after the other. */
export class Medium {
  readonly #queue: BlockQueue;
  readonly #memory: Buffer;
  #turn: Promise<unknown> = Promise.resolve();
  #ended: (result: number) => void = () => {};
  /** Of the operation in flight: each has its own, so that what ends late is not taken for another's end. */
  #tag = 0;

  constructor(image: BlockImage) {
    const memory = allocateMemory(MEMORY_BYTES);
    this.#memory = Buffer.from(memory);
    this.#queue = image.createQueue({ depth: 1, memory });
    this.#queue.onComplete((tags, results, count) => {
      for (let i = 0; i < count; i++) if (tags[i] === this.#tag) this.#ended(results[i]);
    });
  }

  /** Calls `work` when all that was asked before is done. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** Writes `length` bytes of a change, from byte `from` of it; resolves with 0 or a negative errno. */
  async put(change: CachedChange, from = 0, length = change.length): Promise<number> {
    const { data, op, offset } = change;
    if (!data) return this.#run(op, offset + from, length, 0);
    for (let at = from; at < from + length; at += MEMORY_BYTES) {
      const part = data.subarray(at, Math.min(at + MEMORY_BYTES, from + length));
      this.#memory.set(part);
      const result = await this.#run(op, offset + at, part.length, part.length);
      if (result < 0) return result;
    }
    return 0;
  }

  flush(): Promise<number> {
    return this.#run(BlockOp.flush, 0, 0, 0);
  }

  async close(): Promise<void> {
    await this.#turn;
    await this.#queue.close();
  }

  #run(op: BlockOp, offset: number, length: number, data: number): Promise<number> {
    return new Promise((resolve) => {
      this.#ended = (result) => resolve(exactResult(data, result));
      const iov = data > 0 ? Float64Array.of(0, 0, data) : NO_IOV;
      this.#tag = (this.#tag + 1) | 0;
      this.#queue.push(op, this.#tag, offset, length, iov, data > 0 ? 1 : 0);
      this.#queue.submit();
    });
  }
}
