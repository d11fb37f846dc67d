import type { XenstoreClient } from '../client/client.js';
import type { OperationOptions } from '../client/operations.js';
import type { Watch } from '../client/watch.js';
import { isXenstoreError, type XenstoreError } from '../errors.js';
import { readTree, type TreeSchema, type TreeValues } from './tree.js';

/** A watched directory, as one look found it. */
export type TreeState<S extends TreeSchema> =
  /** It is as the schema says. */
  | { readonly status: 'present'; readonly values: TreeValues<S> }
  /** There is no such directory. */
  | { readonly status: 'absent' }
  /** The schema does not allow its content. The error is that of {@link readTree}; its `path` is a key at fault. */
  | { readonly status: 'invalid'; readonly error: XenstoreError };

/**
 * Follows a directory: its state now, then each state that differs from the one before. States that nobody waited for
 * are skipped, the last never is. Wrong content is a state, not an exception, because a guest may have written it.
 */
export async function watchTree<const S extends TreeSchema>(
  client: XenstoreClient,
  path: string,
  schema: S,
  options: OperationOptions = {},
): Promise<TreeWatch<S>> {
  return new TreeWatch(client, await client.watch(path, options), schema, options.signal);
}

/**
 * See {@link watchTree}. Leaving the loop or disposing it ends the watch.
 *
 * A watch event is only a reason to look. Each look reads the whole directory in one transaction, so that no state is
 * made of two; events that came before a look are dropped, because the look sees what they stand for. Equal states in
 * a row are told once. Wrong content never ends the loop: only a lost connection, the signal, or leaving it does.
 */
export class TreeWatch<S extends TreeSchema>
  implements AsyncIterableIterator<TreeState<S>, undefined>, AsyncDisposable
{
  readonly #client: XenstoreClient;
  readonly #watch: Watch;
  readonly #schema: S;
  readonly #signal: AbortSignal | undefined;
  #last: string | undefined;

  /** Use {@link watchTree}. */
  constructor(client: XenstoreClient, watch: Watch, schema: S, signal?: AbortSignal) {
    this.#client = client;
    this.#watch = watch;
    this.#schema = schema;
    this.#signal = signal;
  }

  /** The next state that differs from the one before. */
  async next(): Promise<IteratorResult<TreeState<S>, undefined>> {
    for (;;) {
      const event = await this.#watch.next();
      if (event.done) return event;
      this.#watch.skip();
      const value = await this.#look();
      const print = fingerprint(value);
      if (print === this.#last) continue;
      this.#last = print;
      return { done: false, value };
    }
  }

  /** Ends the watch: what leaving a loop over it does. */
  async return(): Promise<IteratorResult<TreeState<S>, undefined>> {
    await this.#watch.close();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#watch.close();
  }

  async #look(): Promise<TreeState<S>> {
    const { path } = this.#watch;
    try {
      return await this.#client.transaction(
        async (tx) => {
          if (!(await tx.exists(path))) return { status: 'absent' };
          return { status: 'present', values: await readTree(tx, path, this.#schema) };
        },
        { signal: this.#signal },
      );
    } catch (error) {
      if (isXenstoreError(error, 'ERR_INVALID_VALUE', 'ENOENT')) return { status: 'invalid', error };
      throw error;
    }
  }
}

function fingerprint(state: TreeState<TreeSchema>): string {
  if (state.status === 'invalid') return state.error.message;
  return JSON.stringify(state, (_, value) => (typeof value === 'bigint' ? String(value) : value));
}
