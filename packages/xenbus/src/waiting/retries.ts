import { Backoff } from './backoff.js';

interface Retry {
  readonly backoff: Backoff;
  timer: NodeJS.Timeout | undefined;
}

/** Tries again what failed, each thing with a backoff of its own. Closing ends all waiting; nothing is tried afterwards. */
export class Retries implements Disposable {
  readonly #retries = new Map<string, Retry>();
  #over = false;

  /** `key` failed: `again` is called after a pause. While a pause lasts, it is the only one for its key. */
  failed(key: string, again: () => void): void {
    if (this.#over) return;
    const retry = this.#retries.get(key) ?? { backoff: new Backoff(), timer: undefined };
    this.#retries.set(key, retry);
    retry.timer ??= setTimeout(() => {
      retry.timer = undefined;
      again();
    }, retry.backoff.failed());
  }

  /** `key` worked, so nothing has to be tried again. */
  worked(key: string): void {
    clearTimeout(this.#retries.get(key)?.timer);
    this.#retries.delete(key);
  }

  /** Whether a pause of `key` lasts. */
  isPausing(key: string): boolean {
    return this.#retries.get(key)?.timer !== undefined;
  }

  [Symbol.dispose](): void {
    this.#over = true;
    for (const { timer } of this.#retries.values()) clearTimeout(timer);
    this.#retries.clear();
  }
}
