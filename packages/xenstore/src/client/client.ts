import { setTimeout as sleep } from 'node:timers/promises';
import { type Domid, type EvtchnPort, untilAborted, type XenstoreTransport } from '@xenpv/xen-sys';
import { isXenstoreError } from '../errors.js';
import type { Request } from '../wire/connection.js';
import { XsOp } from '../wire/wire.js';
import { daemonRequests } from './daemon-requests.js';
import { type LocateOptions, locateXenstored } from './locate.js';
import { NodeOperations } from './node-operations.js';
import type { OperationOptions, XenstoreOperations } from './operations.js';
import { type CloseOptions, type Reopen, Session } from './session.js';
import { beginTransaction, isRetryable, type Transaction } from './transaction.js';
import { waitFor } from './wait-for.js';
import { Watch, type WatchOptions, type WatchSink } from './watch.js';

/** How a client is opened over a transport. */
export interface ClientOptions {
  /**
   * What to do when the connection dies. Without it everything rejects with ERR_CLOSED from then on. With it what is
   * pending rejects, later calls wait for the new connection, and every watch is registered again and fires once.
   */
  readonly reconnect?: Reopen | undefined;
}

/** How a client connects. */
export interface ConnectOptions extends LocateOptions {
  /** Connect again, by the same way, when the connection dies; false by default. The first one is not tried again. */
  readonly reconnect?: boolean | undefined;
}

/** How a transaction is repeated. */
export interface TransactionOptions extends OperationOptions {
  /** How often to begin again after a conflict; 100 by default. */
  readonly retries?: number | undefined;
}

const DEFAULT_RETRIES = 100;
const LONGEST_BACKOFF_MS = 32;

/**
 * A client of a xenstored: operations on nodes, transactions, watches, and the requests of a toolstack.
 *
 * Calls may be made at any time and any number at once; on one connection the daemon carries them out in the order in
 * which they were made. Nothing blocks, nothing is thrown: every call gives a promise, which rejects with a
 * {@link XenstoreError} or with the reason of its signal. A request is never sent twice, except by
 * {@link transaction}, which repeats a transaction that the daemon dropped as a whole. How connections come and go is
 * told in session.ts.
 */
export class XenstoreClient extends NodeOperations implements AsyncDisposable {
  /** Resolves when the client is closed for good: with undefined after {@link close}, else with what broke it. */
  readonly closed: Promise<Error | undefined>;
  readonly #session: Session;

  private constructor(transport: XenstoreTransport, options: ClientOptions) {
    super();
    this.#session = new Session(transport, options.reconnect);
    this.closed = this.#session.closed;
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
    return new XenstoreClient(transport, { reconnect: options.reconnect ? reconnect : undefined });
  }

  /**
   * How often this client has connected: 1 until it connects again. Another xenstored may have answered then, without the
   * nodes of the one before.
   */
  get connections(): number {
    return this.#session.connections;
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
   * {@link watch}, but each event calls `sink` as it comes, and none are joined. Resolves with the function that ends the
   * watch.
   */
  subscribe(path: string, sink: WatchSink, options: WatchOptions = {}): Promise<() => Promise<void>> {
    return this.#session.subscribe(path, sink, options);
  }

  /**
   * Runs `fn` now, and again whenever a node that it read, listed or looked for changes, until it gives something else
   * than undefined. Nodes that do not exist count too. Rejects with what `fn` throws and with the signal's reason.
   *
   * @example
   * ```ts
   * import { XenstoreClient } from '@xenpv/xenstore';
   *
   * await using store = await XenstoreClient.connect();
   * const isConnected = await store.waitFor(
   *   async (ops) => {
   *     const backend = await ops.tryRead('device/vbd/51712/backend');
   *     return (backend !== undefined && (await ops.tryRead(`${backend}/state`)) === '4') || undefined;
   *   },
   *   { signal: AbortSignal.timeout(10_000) },
   * );
   * console.log(isConnected); // true
   * ```
   */
  waitFor<T>(
    fn: (operations: XenstoreOperations) => Promise<T | undefined>,
    options: OperationOptions = {},
  ): Promise<T> {
    return waitFor(this.#session, fn, options.signal);
  }

  /**
   * Runs `fn` in a transaction and commits; begins again, `fn` included, when the store changed under it. What `fn`
   * throws aborts the transaction and rejects. Rejects with EAGAIN when the retries are used up. Aborting the signal ends
   * what `fn` has asked the transaction for, too.
   *
   * @example
   * ```ts
   * import { XenstoreClient } from '@xenpv/xenstore';
   *
   * await using store = await XenstoreClient.connect();
   * await store.transaction(async (tx) => {
   *   const count = Number((await tx.tryRead('data/count')) ?? 0);
   *   await tx.write('data/count', count + 1);
   * });
   * ```
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

  /** Begins a transaction to be ended by hand. Aborting the signal later rejects what is pending in it. */
  async begin(options: OperationOptions = {}): Promise<Transaction> {
    const { signal } = options;
    const connection = await this.#session.connected({ type: XsOp.transactionStart, path: undefined }, signal);
    return beginTransaction(connection, signal);
  }

  /** The home of a domain: `/local/domain/5`. The domain need not exist. */
  getDomainPath(domid: Domid, options?: OperationOptions): Promise<string> {
    return this.send(daemonRequests.domainPath(domid), options);
  }

  /** Tells the daemon of a new domain: its store page and the event channel that the domain left for us. */
  introduceDomain(
    domid: Domid,
    gfn: number | bigint,
    eventChannel: EvtchnPort,
    options?: OperationOptions,
  ): Promise<void> {
    return this.send(daemonRequests.introduce(domid, gfn, eventChannel), options);
  }

  /** Tells the daemon that a domain is gone. */
  releaseDomain(domid: Domid, options?: OperationOptions): Promise<void> {
    return this.send(daemonRequests.release(domid), options);
  }

  /** Whether the daemon serves that domain. */
  isDomainIntroduced(domid: Domid, options?: OperationOptions): Promise<boolean> {
    return this.send(daemonRequests.isIntroduced(domid), options);
  }

  /** Tells the daemon that a domain lives again after a suspend that it cancelled. */
  resumeDomain(domid: Domid, options?: OperationOptions): Promise<void> {
    return this.send(daemonRequests.resume(domid), options);
  }

  /** Gives domain `domid` the rights of `target`, as a stub domain has. */
  setTarget(domid: Domid, target: Domid, options?: OperationOptions): Promise<void> {
    return this.send(daemonRequests.setTarget(domid, target), options);
  }

  /**
   * A request to the daemon itself: `control('log', ['on'])`. Resolves with its answer; what it knows depends on the
   * daemon, and on its version. EACCES for all but a privileged domain, EINVAL for what it does not know.
   */
  control(command: string, args: readonly string[] = [], options?: OperationOptions): Promise<string> {
    return this.send(daemonRequests.control(command, args), options);
  }

  /**
   * Ends all watches and open transactions of this connection at the daemon, as a kernel does that was booted anew on the
   * connection of one before. Loops over watches of this client end. Through /dev/xen/xenbus the connection is that of
   * the domain, kernel included, whose own watches go too: only for a connection that nobody else uses.
   */
  resetWatches(options?: OperationOptions): Promise<void> {
    return this.#session.resetWatches(options?.signal);
  }

  /**
   * Features as bits, see {@link XenstoreFeature}: those of the daemon, or those that domain `domid` is shown. 0 from a
   * daemon before Xen 4.21, which cannot tell.
   */
  getFeatures(domid?: Domid, options?: OperationOptions): Promise<number> {
    return this.send(daemonRequests.features(domid), options).catch((error) => {
      if (isXenstoreError(error, 'ENOSYS')) return 0;
      throw error;
    });
  }

  /** Sets which features a domain is shown, before it starts. ENOSYS from a daemon before Xen 4.21. */
  setFeatures(domid: Domid, features: number, options?: OperationOptions): Promise<void> {
    return this.send(daemonRequests.setFeatures(domid, features), options);
  }

  /** The names of the quotas that can be read and set. ENOSYS from a daemon before Xen 4.21. */
  quotaNames(options?: OperationOptions): Promise<string[]> {
    return this.send(daemonRequests.quotaNames(), options);
  }

  /** A quota of a domain, or what new domains get; 0 is none. ENOSYS from a daemon before Xen 4.21. */
  getQuota(name: string, domid?: Domid, options?: OperationOptions): Promise<number> {
    return this.send(daemonRequests.quota(name, domid), options);
  }

  /** Sets a quota of a domain, or of new domains. ENOSYS from a daemon before Xen 4.21. */
  setQuota(name: string, value: number, domid?: Domid, options?: OperationOptions): Promise<void> {
    return this.send(daemonRequests.setQuota(name, value, domid), options);
  }

  /** What the client is connected to, for messages; undefined while it is not. */
  get description(): string | undefined {
    return this.#session.description;
  }

  /** Lets an open connection keep the process alive, as it does unless told otherwise. */
  ref(): void {
    this.#session.ref();
  }

  /** Lets the process end in spite of an open connection. */
  unref(): void {
    this.#session.unref();
  }

  /**
   * Waits for pending calls, ten seconds at the most or until the signal aborts, then closes; loops over watches end. What
   * is pending still, and calls made later, reject with ERR_CLOSED.
   */
  close(options?: CloseOptions): Promise<void> {
    return this.#session.close(options);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  protected send<T>(request: Request<T>, options: OperationOptions | undefined): Promise<T> {
    return this.#session.send(request, options?.signal);
  }

  async #transactionOnce<T>(fn: (transaction: XenstoreOperations) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const transaction = await this.begin({ signal });
    try {
      const result = await untilAborted(fn(transaction), signal);
      signal?.throwIfAborted();
      await transaction.commit();
      return result;
    } catch (error) {
      // Who aborts does not wait for a daemon that may be silent, be it before or while it is told.
      await transaction.abort({ signal });
      throw error;
    }
  }
}

/** Waits a random moment, longer after more attempts, so that rivals do not collide again. */
async function backOff(attempt: number, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  if (attempt === 0) return;
  await sleep(Math.random() * Math.min(2 ** attempt, LONGEST_BACKOFF_MS));
  signal?.throwIfAborted();
}
