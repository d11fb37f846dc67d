import type { BlockImage, BlockOp } from '../block-image.js';
import { EngineQueue, type QueueOptions } from './engine-queue.js';
import { NOTHING, STAGED_WORDS } from './staging.js';

/**
 * The queue of an engine that is JavaScript: it has the regions as Buffers, walks through what is staged, and collects
 * completions, which `poll` or the event loop's next turn delivers. An engine adds `begin`.
 */
export abstract class LocalQueue extends EngineQueue {
  /** The bytes of each region, by its number. */
  protected readonly regions: Buffer[];
  #completed = 0;
  readonly #doneTags: Int32Array;
  readonly #doneResults: Int32Array;
  #scheduled = false;
  readonly #run = () => {
    this.#scheduled = false;
    this.poll();
  };

  constructor(image: BlockImage, options: QueueOptions) {
    super(image, options);
    this.regions = [Buffer.from(options.memory)];
    this.#doneTags = new Int32Array(options.depth);
    this.#doneResults = new Int32Array(options.depth);
  }

  override addRegion(buffer: ArrayBufferLike): number {
    const region = super.addRegion(buffer);
    this.regions[region] = Buffer.from(buffer);
    return region;
  }

  override submit(): void {
    const { staging } = this;
    const end = staging.count * STAGED_WORDS;
    for (let at = 0; at < end; at += STAGED_WORDS) {
      const op = staging.op(at);
      if (op < 0) this.complete(staging.tag(at), op === NOTHING ? 0 : op);
      else this.begin(op as BlockOp, at);
    }
    staging.clear();
  }

  override poll(): number {
    const count = this.#completed;
    if (count === 0 || this.delivering) return 0;
    // The listener may push and submit, which completes more: it sees a copy.
    for (let i = 0; i < count; i++) {
      this.tags[i] = this.#doneTags[i];
      this.results[i] = this.#doneResults[i];
    }
    this.#completed = 0;
    this.deliver(count);
    return count;
  }

  /**
   * Carries out the operation that is staged at `at`, or begins to; it has passed the checks. It ends with one call of
   * `complete`, now or later. `staging` has it only until `begin` returns.
   */
  protected abstract begin(op: BlockOp, at: number): void;

  protected complete(tag: number, result: number): void {
    this.#doneTags[this.#completed] = tag;
    this.#doneResults[this.#completed++] = result;
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#run);
  }
}
