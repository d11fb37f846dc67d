import { untilAborted } from '@xenpv/xen-sys';
import type { OperationOptions } from './operations.js';

/** Something changed: a node at or below the one that is watched. */
export interface WatchEvent {
  /**
   * The node that changed, spelled as the watch was registered (relative for a relative one). The watched path itself
   * says the least: it, or anything below it, changed or was removed.
   */
  readonly path: string;
}

/** How a watch is registered. */
export interface WatchOptions {
  /** Aborting ends the watch: its loop throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** How many levels below the path matter: 0 is the node alone. Filtered here where the daemon cannot. */
  readonly depth?: number | undefined;
}

/** Distinct paths that wait to be taken before they are collapsed into one event on the watched path. */
const MAX_DISTINCT_PATHS = 256;

/** What a registered watch tells to. */
export interface WatchSink {
  /** A node changed, at or below the one that is watched. */
  event(path: string): void;
  /** Comes at most once, instead of further events. */
  failed(error: unknown): void;
  /** Comes instead of {@link failed} when the client is closed. Without it, that is a failure with ERR_CLOSED. */
  ended?(): void;
}

type Waiter = { resolve(result: IteratorResult<WatchEvent, undefined>): void; reject(error: unknown): void };

/**
 * A registered watch: an endless sequence of events, the first of which comes at once. Events with the same path that
 * nobody took yet are one; too many different ones become a single event on the watched path. So it never grows and
 * never loses the last change: after each change at or below the path there is an event to take, of that path or of
 * one above it. How many events there are says nothing. Their order is that of the first changes that they stand for.
 *
 * Leaving a `for await` loop, disposing it, or closing the client ends it; a broken connection throws in the loop.
 */
export class Watch implements AsyncIterableIterator<WatchEvent, undefined>, AsyncDisposable, WatchSink {
  /** As it was registered. */
  readonly path: string;
  readonly #unregister: () => Promise<void>;
  readonly #waiting = new Set<string>();
  readonly #waiters: Waiter[] = [];
  #collapsed = false;
  #over = false;
  #failure: { error: unknown } | undefined;

  /** Use {@link XenstoreClient.watch}. */
  constructor(path: string, unregister: () => Promise<void>) {
    this.path = path;
    this.#unregister = unregister;
  }

  /** The next event. For one event at a time where a loop does not fit; several calls are served in turn. */
  next(): Promise<IteratorResult<WatchEvent, undefined>> {
    for (const path of this.#waiting) {
      this.#waiting.delete(path);
      if (this.#waiting.size === 0) this.#collapsed = false;
      return Promise.resolve({ done: false, value: { path } });
    }
    if (this.#failure !== undefined) return this.#throwOnce(this.#failure.error);
    if (this.#over) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
    });
  }

  /** Ends the watch: what leaving a loop over it does. */
  async return(): Promise<IteratorResult<WatchEvent, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Drops the events that wait: for a reader that looks at everything next. */
  skip(): void {
    this.#waiting.clear();
    this.#collapsed = false;
  }

  /**
   * Ends the watch: the loop over it finishes, events that nobody took are dropped. Resolves when the daemon has ended it
   * too; aborting `signal` rejects with its reason, and the watch ends all the same. Harmless when repeated.
   */
  async close({ signal }: OperationOptions = {}): Promise<void> {
    this.#waiting.clear();
    this.#failure = undefined;
    if (this.#over) return;
    this.ended();
    await untilAborted(this.#unregister(), signal);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @internal */
  event(path: string): void {
    if (this.#over) return;
    const waiter = this.#waiters.shift();
    if (waiter !== undefined) waiter.resolve({ done: false, value: { path } });
    else if (!this.#collapsed) this.#keep(path);
  }

  #keep(path: string): void {
    this.#waiting.add(path);
    if (this.#waiting.size <= MAX_DISTINCT_PATHS) return;
    this.#waiting.clear();
    this.#waiting.add(this.path);
    this.#collapsed = true;
  }

  /** @internal */
  failed(error: unknown): void {
    if (this.#over) return;
    const waiter = this.#waiters.shift();
    if (waiter === undefined) this.#failure = { error };
    else waiter.reject(error);
    this.ended();
  }

  /** Ends the sequence without telling the daemon. @internal */
  ended(): void {
    this.#over = true;
    for (const waiter of this.#waiters.splice(0)) waiter.resolve({ done: true, value: undefined });
  }

  #throwOnce(error: unknown): Promise<never> {
    this.#failure = undefined;
    return Promise.reject(error);
  }
}
