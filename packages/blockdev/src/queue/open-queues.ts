import type { EngineQueue } from './engine-queue.js';

/** The queues of an image that are not closed yet. */
export class OpenQueues {
  readonly #queues = new Set<EngineQueue>();

  add<Queue extends EngineQueue>(queue: Queue): Queue {
    this.#queues.add(queue);
    queue.onClosed = () => this.#queues.delete(queue);
    return queue;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#queues].map((queue) => queue.close()));
  }
}
