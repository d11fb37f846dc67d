import { isXenstoreError } from '../errors.js';
import { encodeStrings, XsOp } from '../wire/wire.js';
import { type NodeRequest, nothing } from './node-operations.js';
import type { WatchSink } from './watch.js';

type Send = <T>(request: NodeRequest<T>, signal?: AbortSignal) => Promise<T>;

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

/** The watches of a client, which outlive its connections. */
export class WatchTable {
  readonly #byToken = new Map<string, Registration>();
  #nextToken = 0;

  get size(): number {
    return this.#byToken.size;
  }

  /** Registers a watch. `sink` may get events before the promise resolves: daemons send the first before the reply. */
  async register(
    send: Send,
    sink: WatchSink,
    path: string,
    depth: Pick<Registration, 'depth' | 'tellDepth'>,
    signal?: AbortSignal,
  ): Promise<Registration> {
    const registration = { path, token: String(++this.#nextToken), ...depth, sink, confirmed: false };
    this.#byToken.set(registration.token, registration);
    try {
      await send(watchRequest(registration), signal);
    } catch (error) {
      this.#byToken.delete(registration.token);
      // The request is on its way all the same; what it does must be undone.
      if (signal?.aborted) void send(unwatchRequest(registration)).catch(() => {});
      throw error;
    }
    registration.confirmed = true;
    return registration;
  }

  /** Ends a watch. A daemon that does not know it any more (its domain may be gone) is fine. */
  async unregister(send: Send, registration: Registration): Promise<void> {
    if (!this.#byToken.delete(registration.token)) return;
    await send(unwatchRequest(registration)).catch((error) => {
      if (!isXenstoreError(error, 'ENOENT', 'ERR_CLOSED')) throw error;
    });
  }

  /** Makes a new connection know every watch; the daemon then fires each once. One that it refuses fails. */
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

  /** Forgets every watch and returns what they told to. */
  clear(): WatchSink[] {
    const sinks = [...this.#byToken.values()].map((registration) => registration.sink);
    this.#byToken.clear();
    return sinks;
  }
}

function watchRequest({ path, token, depth, tellDepth }: Registration): NodeRequest<void> {
  const payload = encodeStrings(path, token, ...(tellDepth ? [String(depth)] : []));
  return { type: XsOp.watch, path, payload, decode: nothing };
}

function unwatchRequest({ path, token }: Registration): NodeRequest<void> {
  return { type: XsOp.unwatch, path, payload: encodeStrings(path, token), decode: nothing };
}

/** Not every daemon knows about depths, and Linux's xenbus device drops them; so it is looked at here too. */
function isTooDeep({ path, depth }: Registration, changed: string): boolean {
  if (depth === undefined || changed.length <= path.length) return false;
  const below = changed.slice(path === '/' ? 1 : path.length + 1);
  return below.split('/').length > depth;
}
