import type { Watch, XenstoreClient } from '@xenpv/xenstore';
import { Backoff } from './backoff.js';

export interface LastingWatchOptions {
  readonly store: XenstoreClient;
  readonly path: string;
  /** A node at or below the path changed; the path itself says the least. Waited for; must not throw. */
  readonly changed: (path: string) => Promise<void> | void;
  /** The watch was lost; it is registered again until that works. */
  readonly lost: (error: unknown) => void;
}

/**
 * A watch that outlives its own end: when xenstored takes it away (a quota that is used up when a connection is made
 * again, say), it is registered again, with a backoff. Each registration tells of the path itself, so that the owner
 * looks at everything and misses nothing. Only {@link close} ends it.
 */
export class LastingWatch implements AsyncDisposable {
  readonly #options: LastingWatchOptions;
  readonly #ending = new AbortController();
  readonly #backoff = new Backoff();
  #watch: Watch | undefined;
  #closing: Promise<void> | undefined;

  private constructor(options: LastingWatchOptions) {
    this.#options = options;
  }

  /** Rejects when the first registration fails. */
  static async start(options: LastingWatchOptions): Promise<LastingWatch> {
    const lasting = new LastingWatch(options);
    const watch = await options.store.watch(options.path);
    lasting.#watch = watch;
    void lasting.#follow(watch);
    return lasting;
  }

  /** Nothing is told any more once it was called. Resolves when xenstored has forgotten the watch, or cannot be asked. */
  close(): Promise<void> {
    this.#ending.abort();
    this.#closing ??= Promise.resolve(this.#watch?.close()).catch(() => {});
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #follow(first: Watch): Promise<void> {
    let watch: Watch | undefined = first;
    while (watch !== undefined) {
      await this.#tellFrom(watch);
      watch = await this.#registerAgain();
    }
  }

  async #tellFrom(watch: Watch): Promise<void> {
    try {
      for await (const { path } of watch) {
        if (this.#ending.signal.aborted) return;
        this.#backoff.worked();
        await this.#options.changed(path);
      }
    } catch (error) {
      if (!this.#ending.signal.aborted) this.#options.lost(error);
    }
  }

  async #registerAgain(): Promise<Watch | undefined> {
    const { store, path, lost } = this.#options;
    const { signal } = this.#ending;
    while (await pause(this.#backoff.failed(), signal)) {
      try {
        // The signal would end the watch too, without waiting for its end.
        const watch = await store.watch(path);
        this.#watch = watch;
        if (!signal.aborted) return watch;
        await watch.close();
      } catch (error) {
        if (!signal.aborted) lost(error);
      }
    }
    return undefined;
  }
}

/** Whether the time passed, and not the signal's abort ended it. */
function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const abort = () => {
      clearTimeout(timer);
      resolve(false);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', abort);
      resolve(true);
    }, ms);
    signal.addEventListener('abort', abort, { once: true });
  });
}
