import { untilAborted } from '@xenpv/xen-sys';
import { isXenstoreError, XenstoreError } from '../errors.js';
import type { Connection, Request } from '../wire/connection.js';
import { decodeNumber, encodeStrings, nothing, XsOp } from '../wire/wire.js';
import { NodeOperations } from './node-operations.js';
import type { OperationOptions } from './operations.js';

/**
 * An open transaction: sees the store as it was at the beginning and its own changes; nobody sees those before
 * {@link commit}. It lives on one connection and ends with it. Leaving an `await using` block aborts it.
 */
export class Transaction extends NodeOperations implements AsyncDisposable {
  /** The number that the daemon gave it. */
  readonly id: number;
  readonly #connection: Connection;
  readonly #signal: AbortSignal | undefined;
  #ended: Promise<void> | undefined;

  /** Use {@link XenstoreClient.begin}. */
  constructor(connection: Connection, id: number, signal: AbortSignal | undefined) {
    super();
    this.#connection = connection;
    this.#signal = signal;
    this.id = id;
  }

  /**
   * Makes all changes at once. Rejects with EAGAIN when the store changed under it: nothing is done then, and the
   * transaction is over; {@link XenstoreClient.transaction} begins again by itself. Once it is on its way, nobody can say
   * after an abort whether it was carried out.
   */
  commit(options: OperationOptions = {}): Promise<void> {
    if (this.#ended !== undefined) return Promise.reject(endedAlready('commit'));
    this.#ended = this.#end('T', options.signal ?? this.#signal);
    return this.#ended;
  }

  /** Forgets all changes. Harmless when the transaction is over already. */
  async abort(options: OperationOptions = {}): Promise<void> {
    const ended = this.#ended ?? this.#end('F', undefined);
    this.#ended = ended;
    await untilAborted(
      ended.catch(() => {}),
      options.signal,
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.abort();
  }

  protected send<T>(request: Request<T>, options: OperationOptions | undefined): Promise<T> {
    if (this.#ended !== undefined) return Promise.reject(endedAlready('use', request.path));
    return this.#connection.request(request, options?.signal ?? this.#signal, this.id);
  }

  #end(verdict: 'T' | 'F', signal: AbortSignal | undefined): Promise<void> {
    const payload = encodeStrings(verdict);
    const request = { type: XsOp.transactionEnd, path: undefined, payload, decode: nothing };
    return this.#connection.request(request, signal, this.id);
  }
}

function endedAlready(op: string, path?: string): XenstoreError {
  return new XenstoreError('ERR_INVALID_ARGUMENT', op, 'the transaction is over', { path });
}

/** Too many open transactions at the moment: the C daemon's words, oxenstored's. */
const FULL = ['EBUSY', 'ENOSPC', 'EQUOTA'] as const;

/**
 * Begins a transaction on a connection, whose operations end with `signal`. Rejects with {@link TooManyTransactions} when
 * that may work later, and with the reason of the signal.
 */
export async function beginTransaction(connection: Connection, signal: AbortSignal | undefined): Promise<Transaction> {
  signal?.throwIfAborted();
  const begun = begin(connection, signal);
  try {
    return await untilAborted(begun, signal);
  } catch (error) {
    // The request is on its way all the same: nobody wants what comes of it.
    if (signal?.aborted) begun.then((transaction) => transaction.abort()).catch(() => {});
    throw error;
  }
}

async function begin(connection: Connection, signal: AbortSignal | undefined): Promise<Transaction> {
  const payload = encodeStrings('');
  const request = { type: XsOp.transactionStart, path: undefined, payload, decode: decodeNumber };
  const id = await connection.request(request).catch((error) => {
    throw isXenstoreError(error, ...FULL) ? new TooManyTransactions(error) : error;
  });
  return new Transaction(connection, id, signal);
}

/** The domain has as many transactions open as it may. */
class TooManyTransactions extends XenstoreError {
  constructor(cause: XenstoreError) {
    super(cause.code, cause.op, 'this domain has as many transactions open as it may', { cause });
  }
}

/** Whether beginning the transaction again may help: it lost a race, or there were too many. */
export function isRetryable(error: unknown): boolean {
  return error instanceof TooManyTransactions || isXenstoreError(error, 'EAGAIN');
}
