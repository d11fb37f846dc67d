import { setTimeout as sleep } from 'node:timers/promises';
import type { XenstoreTransport } from '@xenpv/xen-sys';
import { lostChannel, restoredChannel } from '../diagnostics.js';
import type { XenstoreError } from '../errors.js';
import { Connection, closedHere } from '../wire/connection.js';
import { XsOp, xsOpName } from '../wire/wire.js';
import { DaemonOperations, XenstoreFeature } from './daemon-operations.js';
import { type LocateOptions, locateXenstored } from './locate.js';
import type { NodeRequest } from './node-operations.js';
import type { OperationOptions, XenstoreOperations } from './operations.js';
import { beginTransaction, isRetryable, type Transaction } from './transaction.js';
import { waitFor } from './wait-for.js';
import { Watch, type WatchSink } from './watch.js';
import { WatchTable } from './watch-table.js';

/** Opens a connection anew; called again, later and later, until it succeeds or the client is closed. */
export type Reopen = (options: { signal: AbortSignal }) => Promise<XenstoreTransport>;

export interface ClientOptions {
  /**
   * What to do when the connection dies. Without it everything rejects with ERR_CLOSED from then on. With it what is
   * pending rejects, later calls wait for the new connection, and every watch is registered again and fires once.
   */
  readonly reconnect?: Reopen | undefined;
}

export interface ConnectOptions extends LocateOptions {
  /** Connect again, by the same way, when the connection dies. */
  readonly reconnect?: boolean | undefined;
}

export interface WatchOptions {
  /** Aborting ends the watch: its loop throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** How many levels below the path matter: 0 is the node alone. Filtered here where the daemon cannot. */
  readonly depth?: number | undefined;
}

export interface TransactionOptions extends OperationOptions {
  /** How often to begin again after a conflict; 100 by default. */
  readonly retries?: number | undefined;
}

const DEFAULT_RETRIES = 100;
const FIRST_RECONNECT_DELAY_MS = 50;
const LAST_RECONNECT_DELAY_MS = 5000;
const LONGEST_BACKOFF_MS = 32;

/** A client of a xenstored: node operations, transactions, watches, and the requests of a toolstack. */
export class XenstoreClient extends DaemonOperations implements AsyncDisposable {
  /** Resolves when the client is closed for good: with undefined after {@link close}, else with what broke it. */
  readonly closed: Promise<Error | undefined>;
  readonly #reopen: Reopen | undefined;
  readonly #watches = new WatchTable();
  readonly #ending = new AbortController();
  #connection: Connection | undefined;
  #reconnecting: Promise<Connection> | undefined;
  #failure: XenstoreError | undefined;
  #features: Promise<number> | undefined;
  #keepsAlive = true;
  #resolveClosed!: (error: Error | undefined) => void;
  #closing: Promise<void> | undefined;

  private constructor(transport: XenstoreTransport, options: ClientOptions) {
    super();
    this.#reopen = options.reconnect;
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    this.#connection = this.#adopt(transport);
  }

  /** A client over a transport that was not started yet; it closes the transport in the end. */
  static open(transport: XenstoreTransport, options: ClientOptions = {}): XenstoreClient {
    return new XenstoreClient(transport, options);
  }

  /** Connects to this machine's xenstored. Rejects with ERR_NO_XENSTORED, which tells what was tried. */
  static async connect(options: ConnectOptions = {}): Promise<XenstoreClient> {
    const transport = await locateXenstored(options);
    const { path, provider } = options;
    const reconnect: Reopen = ({ signal }) => locateXenstored({ path, provider, signal });
    return new XenstoreClient(transport, options.reconnect ? { reconnect } : {});
  }

  /** Watches a node and all below it. When the promise resolves, no change is missed any more. */
  async watch(path: string, options: WatchOptions = {}): Promise<Watch> {
    const { signal } = options;
    let unregister = async () => {};
    const watch = new Watch(path, () => unregister());
    const abort = () => {
      watch.failed(signal!.reason);
      void unregister().catch(() => {});
    };
    const end = await this.subscribe(path, watch, options);
    unregister = async () => {
      signal?.removeEventListener('abort', abort);
      await end();
    };
    if (signal?.aborted) abort();
    else signal?.addEventListener('abort', abort, { once: true });
    return watch;
  }

  /**
   * {@link watch}, but each event is a call of `sink`, as it comes, none joined; the function that it gives ends the
   * watch. For whoever counts events, and reacts to each at once.
   */
  async subscribe(path: string, sink: WatchSink, options: WatchOptions = {}): Promise<() => Promise<void>> {
    const { signal, depth } = options;
    const send = <T>(request: NodeRequest<T>, by?: AbortSignal) => this.send(request, { signal: by });
    const tellDepth = depth !== undefined && (await this.#knowsDepth());
    const registration = await this.#watches.register(send, sink, path, { depth, tellDepth }, signal);
    return () => this.#watches.unregister(send, registration);
  }

  /**
   * Runs `fn` at once and again whenever a node that it read, listed or looked for changes, until it gives something
   * else than undefined. Nodes that do not exist count too.
   */
  waitFor<T>(
    fn: (operations: XenstoreOperations) => Promise<T | undefined>,
    options: OperationOptions = {},
  ): Promise<T> {
    const client = {
      send: <R>(request: NodeRequest<R>, signal?: AbortSignal) => this.send(request, { signal }),
      subscribe: (path: string, sink: WatchSink, signal?: AbortSignal) => this.subscribe(path, sink, { signal }),
    };
    return waitFor(client, fn, options.signal);
  }

  /**
   * Runs `fn` in a transaction and commits; begins again, `fn` included, when the store changed under it. What `fn`
   * throws aborts the transaction and rejects. Rejects with EAGAIN when the retries are used up.
   */
  async transaction<T>(
    fn: (transaction: XenstoreOperations) => Promise<T>,
    options: TransactionOptions = {},
  ): Promise<T> {
    const { signal, retries = DEFAULT_RETRIES } = options;
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#transactionOnce(fn, signal);
      } catch (error) {
        if (!isRetryable(error) || attempt >= retries) throw error;
      }
      await backOff(attempt, signal);
    }
  }

  /** Begins a transaction to be ended by hand. */
  async begin(options: OperationOptions = {}): Promise<Transaction> {
    const { signal } = options;
    const connection = await this.#connected(XsOp.transactionStart, undefined, signal);
    signal?.throwIfAborted();
    const transaction = await beginTransaction(connection);
    if (signal?.aborted) {
      await transaction.abort();
      throw signal.reason;
    }
    return transaction;
  }

  /** What the client is connected to, for messages; undefined while it is not. */
  get description(): string | undefined {
    return this.#connection?.description;
  }

  /** Whether an open connection keeps the process alive; it does, unless told otherwise. */
  ref(): void {
    this.#keepsAlive = true;
    this.#connection?.ref();
  }

  unref(): void {
    this.#keepsAlive = false;
    this.#connection?.unref();
  }

  /** Waits for what is pending, then closes; loops over watches end. Calls made later reject with ERR_CLOSED. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  protected send<T>(request: NodeRequest<T>, options: OperationOptions | undefined): Promise<T> {
    const connection = this.#connection;
    return connection === undefined
      ? this.#sendLater(request, options?.signal)
      : this.#sendOn(connection, request, options?.signal);
  }

  async #sendLater<T>(request: NodeRequest<T>, signal: AbortSignal | undefined): Promise<T> {
    return this.#sendOn(await this.#connected(request.type, request.path, signal), request, signal);
  }

  #sendOn<T>(connection: Connection, request: NodeRequest<T>, signal: AbortSignal | undefined): Promise<T> {
    const { type, path, payload, decode } = request;
    if (this.#closing !== undefined) return Promise.reject(closedHere(xsOpName(type), path));
    return connection.request({ type, transactionId: 0, path, payload, decode }, signal);
  }

  async #transactionOnce<T>(fn: (transaction: XenstoreOperations) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const transaction = await this.begin({ signal });
    try {
      const result = await fn(transaction);
      signal?.throwIfAborted();
      await transaction.commit();
      return result;
    } catch (error) {
      await transaction.abort();
      throw error;
    }
  }

  async #knowsDepth(): Promise<boolean> {
    this.#features ??= this.getFeatures().catch(() => 0);
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
        const connection = this.#adopt(await reopen({ signal }));
        if (!this.#keepsAlive) connection.unref();
        await this.#watches.registerAgain((request, by) => connection.request({ ...request, transactionId: 0 }, by));
        if (signal.aborted) {
          await connection.close();
          throw signal.reason;
        }
        this.#connection = connection;
        this.#reconnecting = undefined;
        restoredChannel.publish({ description: connection.description });
        return connection;
      } catch {
        if (signal.aborted) throw closedHere('connect', undefined);
      }
      await sleep(delay, undefined, { signal, ref: this.#keepsAlive });
    }
  }

  /** The connection, now or when there is one again. */
  async #connected(type: number, path: string | undefined, signal: AbortSignal | undefined): Promise<Connection> {
    if (this.#connection !== undefined) return this.#connection;
    if (this.#reconnecting === undefined) throw closedHere(xsOpName(type), path, this.#failure);
    try {
      return await abortable(this.#reconnecting, signal);
    } catch (error) {
      signal?.throwIfAborted();
      throw closedHere(xsOpName(type), path, error as Error);
    }
  }

  #finish(error: XenstoreError | undefined): void {
    this.#failure = error;
    for (const sink of this.#watches.clear()) {
      if (error !== undefined) sink.failed(error);
      else if (sink instanceof Watch) sink.end();
      else sink.failed(closedHere('waitFor', undefined));
    }
    this.#resolveClosed(error);
  }

  async #close(): Promise<void> {
    this.#ending.abort();
    const connection = this.#connection;
    await connection?.idle();
    this.#finish(this.#failure);
    await connection?.close();
  }
}

/** Waits a random moment, longer after more attempts, so that rivals do not collide again. */
async function backOff(attempt: number, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  if (attempt === 0) return;
  await sleep(Math.random() * Math.min(2 ** attempt, LONGEST_BACKOFF_MS));
  signal?.throwIfAborted();
}

function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
