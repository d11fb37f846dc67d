import { onAbort, type XenstoreTransport } from '@xenpv/xen-sys';
import { refusedByDaemon, XenstoreError } from '../errors.js';
import { pathError } from './paths.js';
import { decodeStrings, encodeMessage, MessageDecoder, type XsMessage, XsOp, xsOpName } from './wire.js';

/**
 * The longest reply taken. The protocol says 4096, but oxenstored lists a directory of any size in one reply.
 */
const MAX_REPLY_BYTES = 16 * 1024 * 1024;

/** One request, whatever transaction it goes in. */
export interface Request<T> {
  /** A value of {@link XsOp}. */
  readonly type: number;
  /** The node, checked before anything is sent; undefined for requests that name none. */
  readonly path: string | undefined;
  readonly payload: Uint8Array;
  /** Reads the payload of the reply, which shares memory with the transport. May throw a {@link XenstoreError}. */
  readonly decode: (payload: Uint8Array, path: string | undefined) => T;
  /**
   * What a missing node (ENOENT) means; an error where not given. Those who expect that many are missing save the making
   * of an error for each.
   */
  readonly missing?: { readonly value: T } | undefined;
}

export interface ConnectionListener {
  watchEvent(path: string, token: string): void;
  /** Comes once, after everything pending was rejected: with what broke it, or undefined after {@link Connection.close}. */
  closed(error: XenstoreError | undefined): void;
}

interface Pending extends Pick<Request<unknown>, 'type' | 'path' | 'decode' | 'missing'> {
  resolve(value: unknown): void;
  reject(error: unknown): void;
  /** Forgets the signal, if there is one. */
  readonly release: (() => void) | undefined;
}

/**
 * One transport: numbers the requests, matches the replies, hands on the watch events.
 *
 * In come requests of any number at once, and bytes from a daemon that may be wrong in any way. Replies are matched by
 * request id alone, whatever their order; an id is not used again while its reply is awaited. Each request settles
 * exactly once: with its reply, with the abort of its signal (the reply is then awaited and dropped, so that the stream
 * stays in step), or with ERR_CLOSED. A refused request was never sent. What the protocol does not allow ends the
 * connection if it concerns the stream, its request if it concerns one reply; nothing is ever thrown at the transport.
 * A connection that ended stays ended: to make another is the owner's business.
 */
export class Connection {
  readonly #transport: XenstoreTransport;
  readonly #listener: ConnectionListener;
  readonly #decoder = new MessageDecoder(MAX_REPLY_BYTES);
  readonly #pending = new Map<number, Pending>();
  #nextId = 0;
  #closed = false;
  #error: XenstoreError | undefined;
  #onIdle: (() => void) | undefined;

  constructor(transport: XenstoreTransport, listener: ConnectionListener) {
    this.#transport = transport;
    this.#listener = listener;
    transport.start({
      data: (chunk) => this.#receive(chunk),
      close: (error) => this.#end(error === undefined ? brokenOff(transport) : brokenBy(transport, error)),
    });
  }

  get description(): string {
    return this.#transport.description;
  }

  /** Sends a request, in a transaction if one is given. Settles with the reply, the connection's end, or `signal`. */
  request<T>(request: Request<T>, signal?: AbortSignal, transactionId = 0): Promise<T> {
    const refusal = this.#refusal(request, signal);
    if (refusal !== undefined) return Promise.reject(refusal);
    return new Promise<T>((resolve, reject) => {
      const id = this.#freeId();
      const { type, path, decode, missing } = request;
      const release = signal === undefined ? undefined : onAbort(signal, reject);
      this.#pending.set(id, { type, path, decode, missing, resolve: resolve as Pending['resolve'], reject, release });
      this.#transport.send(encodeMessage(type, id, transactionId, request.payload));
    });
  }

  /** Resolves when no reply is awaited any more. */
  idle(): Promise<void> {
    if (this.#pending.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onIdle = resolve;
    });
  }

  /** Closes the transport; everything pending is rejected. Harmless when repeated. */
  async close(): Promise<void> {
    this.#end(undefined);
    await this.#transport.close();
  }

  ref(): void {
    this.#transport.ref();
  }

  unref(): void {
    this.#transport.unref();
  }

  #refusal(request: Request<unknown>, signal: AbortSignal | undefined): unknown {
    const { path, payload } = request;
    if (signal?.aborted) return signal.reason;
    const op = xsOpName(request.type);
    if (this.#closed) return this.#error ?? closedHere(op, path);
    const wrongPath = path === undefined ? undefined : pathError(path, op);
    if (wrongPath !== undefined) return wrongPath;
    const maximum = this.#transport.maxPayload;
    if (payload.length <= maximum) return undefined;
    const message = `${payload.length} bytes of payload, ${this.#transport.description} takes at most ${maximum}`;
    return new XenstoreError('ERR_TOO_LARGE', op, message, { path });
  }

  #freeId(): number {
    do this.#nextId = (this.#nextId + 1) >>> 0;
    while (this.#pending.has(this.#nextId) || this.#nextId === 0);
    return this.#nextId;
  }

  #receive(chunk: Uint8Array): void {
    if (this.#closed) return;
    try {
      for (const message of this.#decoder.push(chunk)) this.#dispatch(message);
    } catch (error) {
      this.#end(error instanceof XenstoreError ? error : protocolError(String(error)));
      void this.#transport.close();
    }
  }

  #dispatch(message: XsMessage): void {
    if (message.type === XsOp.watchEvent) this.#watchEvent(message);
    else this.#settle(message);
  }

  #settle(message: XsMessage): void {
    const pending = this.#pending.get(message.requestId);
    if (pending === undefined) {
      throw protocolError(`a reply to request ${message.requestId}, which was never sent or has its reply already`);
    }
    this.#pending.delete(message.requestId);
    pending.release?.();
    if (message.type === pending.type) resolveWith(pending, message.payload);
    else if (message.type === XsOp.error) refuse(pending, message.payload);
    else pending.reject(protocolError(`the reply is a ${xsOpName(message.type)}`, pending));
    if (this.#pending.size === 0) this.#onIdle?.();
  }

  #watchEvent(message: XsMessage): void {
    const [path, token] = decodeStrings(message.payload);
    if (token === undefined) throw protocolError('a watch event without a token');
    this.#listener.watchEvent(path, token);
  }

  #end(error: XenstoreError | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#error = error;
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { type, path, reject, release } of pending) {
      release?.();
      reject(closedHere(xsOpName(type), path, error));
    }
    this.#onIdle?.();
    this.#listener.closed(error);
  }
}

function resolveWith(pending: Pending, payload: Uint8Array): void {
  try {
    pending.resolve(pending.decode(payload, pending.path));
  } catch (thrown) {
    pending.reject(thrown);
  }
}

function refuse(pending: Pending, payload: Uint8Array): void {
  const code = decodeStrings(payload)[0] || 'EIO';
  if (code === 'ENOENT' && pending.missing !== undefined) pending.resolve(pending.missing.value);
  else pending.reject(refusedByDaemon(code, xsOpName(pending.type), pending.path));
}

function protocolError(message: string, pending?: Pending): XenstoreError {
  const op = pending === undefined ? 'receive' : xsOpName(pending.type);
  return new XenstoreError('ERR_PROTOCOL', op, message, { path: pending?.path });
}

/** The error of a call on a connection that is not there, or that ended under it. */
export function closedHere(op: string, path: string | undefined, cause?: Error): XenstoreError {
  const message = cause === undefined ? 'the client is closed' : `the connection ended: ${cause.message}`;
  return new XenstoreError('ERR_CLOSED', op, message, { path, cause });
}

function brokenOff(transport: XenstoreTransport): XenstoreError {
  return new XenstoreError('ERR_CLOSED', 'receive', `${transport.description} closed the connection`);
}

function brokenBy(transport: XenstoreTransport, cause: Error): XenstoreError {
  return new XenstoreError('ERR_CLOSED', 'receive', `${transport.description}: ${cause.message}`, { cause });
}
