import { BlockOp, type BlockQueue, IOV_WORDS } from '../block-image.js';

const NO_IOV = new Float64Array(0);

/** One piece of a scatter list: region, byte offset in it, bytes. */
export type Piece = readonly [region: number, at: number, bytes: number];

/** Promises over a queue, for tests and tools: it takes the queue's listener and chooses the tags. */
export class QueueDriver {
  /** Its user submits what was pushed, and closes it. */
  readonly queue: BlockQueue;
  readonly #waiting = new Map<number, (result: number) => void>();
  #nextTag = -3;

  constructor(queue: BlockQueue) {
    this.queue = queue;
    queue.onComplete((tags, results, count) => {
      for (let i = 0; i < count; i++) {
        const resolve = this.#waiting.get(tags[i]);
        if (!resolve) throw new Error(`completion of tag ${tags[i]}, which is not in flight`);
        this.#waiting.delete(tags[i]);
        resolve(results[i]);
      }
    });
  }

  /** Stages one operation; resolves with its result after a `submit`. Rejects when the queue is full. */
  push(op: BlockOp, offset: number, length: number, pieces: readonly Piece[] = []): Promise<number> {
    const iov = pieces.length === 0 ? NO_IOV : new Float64Array(pieces.length * IOV_WORDS);
    pieces.forEach((piece, i) => {
      iov.set(piece, i * IOV_WORDS);
    });
    const tag = this.#nextTag++;
    return new Promise((resolve, reject) => {
      if (this.queue.push(op, tag, offset, length, iov, pieces.length)) this.#waiting.set(tag, resolve);
      else reject(new Error('the queue is full'));
    });
  }

  /** Does one operation, with data at `at` of region 0. */
  async run(op: BlockOp, offset: number, length: number, at = 0): Promise<number> {
    const done = this.push(op, offset, length, op <= BlockOp.writeFua ? [[0, at, length]] : []);
    this.queue.submit();
    return done;
  }
}
