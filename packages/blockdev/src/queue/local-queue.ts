import type { BlockImage } from '../block-image.js';
import { EngineQueue, type QueueOptions } from './engine-queue.js';

/** A queue whose completions are collected in JavaScript and delivered by `poll` or by the event loop's next turn. */
export abstract class LocalQueue extends EngineQueue {
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
    this.#doneTags = new Int32Array(options.depth);
    this.#doneResults = new Int32Array(options.depth);
  }

  poll(): number {
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

  protected complete(tag: number, result: number): void {
    this.#doneTags[this.#completed] = tag;
    this.#doneResults[this.#completed++] = result;
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#run);
  }
}
