import { setTimeout as sleep } from 'node:timers/promises';
import { untilAborted, type XenstoreTransport } from '@xenpv/xen-sys';
import { lostChannel, restoredChannel } from '../diagnostics.js';
import type { XenstoreError } from '../errors.js';
import { Connection, closedHere, type Request } from '../wire/connection.js';
import { xsOpName } from '../wire/wire.js';
import { daemonRequests, XenstoreFeature } from './daemon-requests.js';
import type { WatchOptions, WatchSink } from './watch.js';
import { WatchTable } from './watch-table.js';

/** Opens a connection anew; called again, later and later, until it succeeds or the client is closed. */
export type Reopen = (options: { signal: AbortSignal }) => Promise<XenstoreTransport>;

/** How a client closes. */
export interface CloseOptions {
  /** Aborting ends the waiting for pending calls: they reject with ERR_CLOSED, and the client closes. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds after which the same happens by itself; 10000 by default. */
  readonly timeoutMs?: number | undefined;
}

/** For a daemon that is busy; one that needs longer for a reply will not give it. */
const LONGEST_CLOSE_MS = 10_000;
const FIRST_RECONNECT_DELAY_MS = 50;
const LAST_RECONNECT_DELAY_MS = 5000;

/**
 * What a client has of a daemon: one connection at a time, made again when it dies, and the watches, which outlive
 * connections.
 *
 * A request goes out on one connection and is never repeated on the next: what was pending when a connection died
 * rejects, since nobody knows whether it was carried out. A request made while there is no connection waits for the
 * next one. A new connection serves requests only when every watch is registered on it, so that no change after such a
 * request is missed. Without a way to reopen, or after {@link close}, everything rejects with ERR_CLOSED.
 */
export class Session {
  /** Resolves when the session is over: with undefined after {@link close}, else with what broke it. */
  readonly closed: Promise<Error | undefined>;
  readonly #reopen: Reopen | undefined;
  readonly #watches = new WatchTable((request, signal) => this.send(request, signal));
  readonly #ending = new AbortController();
  #connection: Connection | undefined;
  #reconnecting: Promise<Connection> | undefined;
  #failure: XenstoreError | undefined;
  /** Of the daemon at the other end now; 0 from one that cannot tell. */
  #features: Promise<number> | undefined;
  #keepsAlive = true;
  #connections = 1;
  #resolveClosed!: (error: Error | undefined) => void;
  #closing: Promise<void> | undefined;
  /** Resolves when a close waits no longer for what is pending. */
  readonly #hurried: Promise<void>;
  #hurry!: () => void;

  constructor(transport: XenstoreTransport, reopen: Reopen | undefined) {
    this.#reopen = reopen;
    this.#hurried = new Promise((resolve) => {
      this.#hurry = resolve;
    });
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    this.#connection = this.#adopt(transport);
  }

  /** What it is connected to, for messages; undefined while it is not. */
  get description(): string | undefined {
    return this.#connection?.description;
  }

  /** How often it has connected. */
  get connections(): number {
    return this.#connections;
  }

  send<T>(request: Request<T>, signal?: AbortSignal): Promise<T> {
    const connection = this.#connection;
    return connection === undefined ? this.#sendLater(request, signal) : this.#sendOn(connection, request, signal);
  }

  /** Registers a watch; the function that it gives ends the watch. */
  async subscribe(path: string, sink: WatchSink, options: WatchOptions): Promise<() => Promise<void>> {
    const { signal, depth } = options;
    const tellDepth = depth !== undefined && (await untilAborted(this.#knowsDepth(), signal));
    const registration = await this.#watches.register({ path, depth, tellDepth, sink }, signal);
    return () => this.#watches.unregister(registration);
  }

  /** The connection, now or when there is one again. `request` is what it is wanted for. */
  async connected(request: Pick<Request<unknown>, 'type' | 'path'>, signal?: AbortSignal): Promise<Connection> {
    if (this.#connection !== undefined) return this.#connection;
    const op = xsOpName(request.type);
    if (this.#reconnecting === undefined) throw closedHere(op, request.path, this.#failure);
    try {
      return await untilAborted(this.#reconnecting, signal);
    } catch (error) {
      signal?.throwIfAborted();
      throw closedHere(op, request.path, error as Error);
    }
  }

  ref(): void {
    this.#keepsAlive = true;
    this.#connection?.ref();
  }

  unref(): void {
    this.#keepsAlive = false;
    this.#connection?.unref();
  }

  /** Ends all watches, and the open transactions too, at the daemon and here. */
  async resetWatches(signal: AbortSignal | undefined): Promise<void> {
    // Those that are registered after this request stand.
    const { forget } = this.#watches.all();
    await this.send(daemonRequests.resetWatches(), signal);
    for (const sink of forget()) this.#endWatch(sink, undefined);
  }

  /** Waits for pending requests, but no longer than it may, then closes; watches end. Harmless when repeated. */
  async close({ signal, timeoutMs = LONGEST_CLOSE_MS }: CloseOptions = {}): Promise<void> {
    const timer = setTimeout(this.#hurry, timeoutMs);
    if (signal?.aborted) this.#hurry();
    else signal?.addEventListener('abort', this.#hurry, { once: true });
    this.#closing ??= this.#close();
    try {
      await this.#closing;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', this.#hurry);
    }
  }

  async #sendLater<T>(request: Request<T>, signal: AbortSignal | undefined): Promise<T> {
    return this.#sendOn(await this.connected(request, signal), request, signal);
  }

  #sendOn<T>(connection: Connection, request: Request<T>, signal: AbortSignal | undefined): Promise<T> {
    if (this.#closing !== undefined) return Promise.reject(closedHere(xsOpName(request.type), request.path));
    const reply = connection.request(request, signal);
    // oxenstored does not look at a message without payload before the next one comes.
    if (request.payload.length === 0) void connection.request(daemonRequests.domainPath(0)).catch(() => {});
    return reply;
  }

  async #knowsDepth(): Promise<boolean> {
    this.#features ??= this.send(daemonRequests.features(undefined)).catch(() => 0);
    return ((await this.#features) & XenstoreFeature.watchDepth) !== 0;
  }

  #adopt(transport: XenstoreTransport): Connection {
    const connection: Connection = new Connection(transport, {
      watchEvent: (path, token) => this.#watches.dispatch(path, token),
      closed: (error) => this.#lost(connection, error),
    });
    return connection;
  }

  #lost(connection: Connection, error: XenstoreError | undefined): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    if (error === undefined) return;
    lostChannel.publish({ description: connection.description, error });
    if (this.#reopen === undefined || this.#closing !== undefined) {
      this.#finish(error);
      return;
    }
    this.#features = undefined;
    this.#reconnecting = this.#reconnect(this.#reopen);
    this.#reconnecting.catch(() => {});
  }

  async #reconnect(reopen: Reopen): Promise<Connection> {
    const { signal } = this.#ending;
    for (let delay = FIRST_RECONNECT_DELAY_MS; ; delay = Math.min(delay * 2, LAST_RECONNECT_DELAY_MS)) {
      try {
        return await this.#connectAgain(reopen, signal);
      } catch {
        if (signal.aborted) throw closedHere('connect', undefined);
      }
      await sleep(delay, undefined, { signal, ref: this.#keepsAlive });
    }
  }

  async #connectAgain(reopen: Reopen, signal: AbortSignal): Promise<Connection> {
    const connection = this.#adopt(await reopen({ signal }));
    if (!this.#keepsAlive) connection.unref();
    try {
      await untilAborted(
        this.#watches.registerAgain((request) => connection.request(request)),
        signal,
      );
      signal.throwIfAborted();
    } catch (error) {
      await connection.close();
      throw error;
    }
    this.#connection = connection;
    this.#connections++;
    this.#reconnecting = undefined;
    restoredChannel.publish({ description: connection.description });
    return connection;
  }

  #finish(error: XenstoreError | undefined): void {
    this.#failure = error;
    for (const sink of this.#watches.all().forget()) this.#endWatch(sink, error);
    this.#resolveClosed(error);
  }

  #endWatch(sink: WatchSink, error: XenstoreError | undefined): void {
    if (error !== undefined) sink.failed(error);
    else if (sink.ended !== undefined) sink.ended();
    else sink.failed(closedHere('watch', undefined));
  }

  async #close(): Promise<void> {
    this.#ending.abort();
    const connection = this.#connection;
    await Promise.race([connection?.idle(), this.#hurried]);
    this.#finish(this.#failure);
    await connection?.close();
  }
}
