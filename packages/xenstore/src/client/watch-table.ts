import { isXenstoreError } from '../errors.js';
import type { Request } from '../wire/connection.js';
import { encodeStrings, nothing, XsOp } from '../wire/wire.js';
import type { WatchSink } from './watch.js';

type Send = <T>(request: Request<T>, signal?: AbortSignal) => Promise<T>;

/** One watch as the daemon knows it. */
export interface Registration {
  readonly path: string;
  readonly token: string;
  /** How many levels below `path` matter; undefined for all. */
  readonly depth: number | undefined;
  /** The daemon knows about depths; one that does not refuses the argument. */
  readonly tellDepth: boolean;
  readonly sink: WatchSink;
  /** The daemon confirmed it; a new connection must register it again. */
  confirmed: boolean;
}

/**
 * The watches of a client, which outlive its connections. Only those that a daemon confirmed are registered again: the
 * call that registers another one is told of the lost connection itself.
 */
export class WatchTable {
  readonly #send: Send;
  readonly #byToken = new Map<string, Registration>();
  #nextToken = 0;

  /** `send` sends on the connection that there is, now or later. */
  constructor(send: Send) {
    this.#send = send;
  }

  /** Registers a watch. Its sink may get events before the promise resolves: daemons send one before the reply. */
  async register(
    watch: Pick<Registration, 'path' | 'depth' | 'tellDepth' | 'sink'>,
    signal?: AbortSignal,
  ): Promise<Registration> {
    const { path, depth, tellDepth, sink } = watch;
    // Written out: copies by spread get a hidden class each, and there are two watches for each device.
    const registration = { path, depth, tellDepth, sink, token: String(++this.#nextToken), confirmed: false };
    this.#byToken.set(registration.token, registration);
    try {
      await this.#send(watchRequest(registration), signal);
    } catch (error) {
      this.#byToken.delete(registration.token);
      // The request is on its way all the same; what it does must be undone.
      if (signal?.aborted) void this.#send(unwatchRequest(registration)).catch(() => {});
      throw error;
    }
    registration.confirmed = true;
    return registration;
  }

  /** Ends a watch. A daemon that does not know it any more (its domain may be gone) is fine. */
  async unregister(registration: Registration): Promise<void> {
    if (!this.#byToken.delete(registration.token)) return;
    await this.#send(unwatchRequest(registration)).catch((error) => {
      if (!isXenstoreError(error, 'ENOENT', 'ERR_CLOSED')) throw error;
    });
  }

  /** Makes a new connection, that of `send`, know every watch; the daemon fires each once. Refused ones fail. */
  async registerAgain(send: Send): Promise<void> {
    const known = [...this.#byToken.values()].filter((registration) => registration.confirmed);
    await Promise.all(
      known.map((registration) =>
        send(watchRequest(registration)).catch((error) => {
          if (isXenstoreError(error, 'ERR_CLOSED')) throw error;
          this.#byToken.delete(registration.token);
          registration.sink.failed(error);
        }),
      ),
    );
  }

  /** Hands an event to its watch; one of a watch that was just ended is dropped. */
  dispatch(path: string, token: string): void {
    const registration = this.#byToken.get(token);
    if (registration === undefined || isTooDeep(registration, path)) return;
    try {
      registration.sink.event(path);
    } catch (error) {
      // A listener's mistake is not the connection's.
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  /** Every watch that there is now; `forget` forgets those that are left of them, and returns what they told to. */
  all(): { readonly forget: () => WatchSink[] } {
    const known = [...this.#byToken.values()];
    const forget = () => known.filter(({ token }) => this.#byToken.delete(token)).map(({ sink }) => sink);
    return { forget };
  }
}

function watchRequest({ path, token, depth, tellDepth }: Registration): Request<void> {
  const payload = encodeStrings(path, token, ...(tellDepth ? [String(depth)] : []));
  return { type: XsOp.watch, path, payload, decode: nothing };
}

function unwatchRequest({ path, token }: Registration): Request<void> {
  return { type: XsOp.unwatch, path, payload: encodeStrings(path, token), decode: nothing };
}

/** Not every daemon knows about depths, and Linux's xenbus device drops them; so it is looked at here too. */
function isTooDeep({ path, depth }: Registration, changed: string): boolean {
  if (depth === undefined || changed.length <= path.length) return false;
  const below = changed.slice(path === '/' ? 1 : path.length + 1);
  return below.split('/').length > depth;
}
