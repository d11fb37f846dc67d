import { untilAborted } from '@xenpv/xen-sys';
import { closedHere, type Request } from '../wire/connection.js';
import { XsOp } from '../wire/wire.js';
import { NodeOperations } from './node-operations.js';
import type { OperationOptions, XenstoreOperations } from './operations.js';
import type { WatchSink } from './watch.js';

/** What {@link waitFor} needs of a client. */
export interface WaitClient {
  send<T>(request: Request<T>, signal: AbortSignal | undefined): Promise<T>;
  /** Registers a watch; the function ends it. */
  subscribe(
    path: string,
    sink: WatchSink,
    options: { readonly signal: AbortSignal | undefined },
  ): Promise<() => Promise<void>>;
}

/**
 * Runs `fn` again whenever a node that it looked at changed, until it gives something else than undefined.
 *
 * Each path is watched before it is looked at for the first time, so that no change is missed between a look and the
 * next run; what changed before the watch stood is seen by the look itself. Changes while `fn` runs count: it runs once
 * more. `fn` runs one time after the other, never twice at once, and never after the call has settled. All watches are
 * gone when the call settles; after an abort they are about to go, since the daemon may be silent.
 */
export async function waitFor<T>(
  client: WaitClient,
  fn: (operations: XenstoreOperations) => Promise<T | undefined>,
  signal: AbortSignal | undefined,
): Promise<T> {
  const scope = new ReadScope(client, signal);
  try {
    for (;;) {
      scope.begin();
      const result = await fn(scope);
      if (result !== undefined) return result;
      await scope.changed();
    }
  } finally {
    await untilAborted(scope.close(), signal);
  }
}

const LOOKS = new Set<number>([XsOp.read, XsOp.directory, XsOp.directoryPart, XsOp.getPermissions]);

/** Operations that watch every path before they look at it, so that no change between two looks is missed. */
class ReadScope extends NodeOperations {
  readonly #client: WaitClient;
  readonly #signal: AbortSignal | undefined;
  readonly #watches = new Map<string, Promise<() => Promise<void>>>();
  #dirty = false;
  #failure: { error: unknown } | undefined;
  #wake: (() => void) | undefined;

  constructor(client: WaitClient, signal: AbortSignal | undefined) {
    super();
    this.#client = client;
    this.#signal = signal;
  }

  begin(): void {
    this.#signal?.throwIfAborted();
    this.#dirty = false;
  }

  /** Resolves when something that was looked at changed since {@link begin}. */
  async changed(): Promise<void> {
    const wake = () => this.#wake?.();
    this.#signal?.addEventListener('abort', wake);
    try {
      while (!this.#dirty && this.#failure === undefined && !this.#signal?.aborted) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      this.#signal?.removeEventListener('abort', wake);
    }
    this.#signal?.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async close(): Promise<void> {
    const ends = await Promise.allSettled(this.#watches.values());
    await Promise.allSettled(ends.map((end) => (end.status === 'fulfilled' ? end.value() : undefined)));
  }

  protected async send<T>(request: Request<T>, options: OperationOptions | undefined): Promise<T> {
    const signal = options?.signal ?? this.#signal;
    if (request.path !== undefined && LOOKS.has(request.type)) await this.#watch(request.path);
    return this.#client.send(request, signal);
  }

  #watch(path: string): Promise<unknown> {
    const known = this.#watches.get(path);
    if (known !== undefined) return known;
    // What changed before the watch stands is seen by the look that follows.
    let stands = false;
    const sink: WatchSink = {
      event: () => {
        if (stands) this.#mark();
      },
      failed: (error) => this.#fail(error),
      ended: () => this.#fail(closedHere('waitFor', path)),
    };
    const watch = this.#client.subscribe(path, sink, { signal: this.#signal }).then((end) => {
      stands = true;
      return end;
    });
    this.#watches.set(path, watch);
    return watch;
  }

  #fail(error: unknown): void {
    this.#failure = { error };
    this.#mark();
  }

  #mark(): void {
    this.#dirty = true;
    this.#wake?.();
  }
}
