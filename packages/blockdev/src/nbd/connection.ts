import { connect, type Socket } from 'node:net';
import {
  Conversation,
  decodeSimpleReply,
  encodeRequest,
  NBD_REQUEST_BYTES,
  NBD_SIMPLE_REPLY_BYTES,
  NbdCommand,
  NbdError,
  type NbdExport,
  type NbdRequest,
  negotiateExport,
  type Speaker,
} from '@xenpv/nbd';
import { nbdLostChannel, nbdRestoredChannel } from '../diagnostics.js';
import { Errno } from '../queue/errno.js';

const RECEIVE_BYTES = 256 << 10;
const RETRY_MS = 100;
/** A larger one is none, and would not fit into a result. */
const MAX_ERRNO = 4095;

/** One request and where its answer goes. */
export interface PendingRequest extends NbdRequest {
  /** The data to send, or the memory for what is read. */
  readonly pieces: readonly Buffer[];
  /** Gets 0 or a negative errno. */
  readonly done: (result: number) => void;
}

export interface NbdConnectionOptions {
  readonly path: string;
  readonly exportName: string;
  /** Milliseconds for which requests wait for a server that went away. */
  readonly reconnect: number;
}

type State = 'connecting' | 'ready' | 'down' | 'closed';

/**
 * A connection to an NBD server that comes back when the server does. Each request gets one answer: the server's, or
 * -EIO when the server has been away, or back without an answer, for `reconnect` milliseconds. Requests without an answer are sent
 * again, so a server may carry one out twice: harmless, because requests in flight together have no order.
 *
 * What a server had acknowledged, but not flushed, when it went away may be lost: the next flush fails with EOWNERDEAD, once. A server
 * that comes back with an export of another size, or that answers what was not asked, is not talked to.
 */
export class NbdConnection {
  readonly #options: NbdConnectionOptions;
  readonly #received = Buffer.allocUnsafe(RECEIVE_BYTES);
  /** By cookie. */
  readonly #requests: (PendingRequest | undefined)[] = [];
  readonly #freeCookies: number[] = [];
  readonly #unsent: number[] = [];
  #export: NbdExport | undefined;
  #socket: Socket | undefined;
  #state: State = 'connecting';
  #downSince = 0;
  /** Since `#downSince` the server was of use: it has answered, or was there when nothing was asked. */
  #progress = false;
  /** It was told that the server is away, and not yet that it is back. */
  #toldLost = false;
  #retry: NodeJS.Timeout | undefined;
  #unflushed = false;
  #lost = false;
  /** Gets the first export that is found, or why there is none. */
  #onFirst: ((found: NbdExport | Error) => void) | undefined;

  constructor(options: NbdConnectionOptions) {
    this.#options = options;
  }

  /** Connects for the first time; rejects with the system's error, NbdError or the signal's reason. */
  async open(signal?: AbortSignal): Promise<NbdExport> {
    signal?.throwIfAborted();
    const abort = () => this.#socket?.destroy();
    signal?.addEventListener('abort', abort);
    try {
      return await new Promise((resolve, reject) => {
        this.#onFirst = (found) => {
          this.#onFirst = undefined;
          if (found instanceof Error) reject(found);
          else resolve(found);
        };
        this.#connect();
      });
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  get inFlight(): number {
    return this.#requests.length - this.#freeCookies.length;
  }

  /** Queues a request for the next `send`. */
  add(request: PendingRequest): void {
    const cookie = this.#freeCookies.pop() ?? this.#requests.length;
    this.#requests[cookie] = request;
    this.#unsent.push(cookie);
  }

  send(): void {
    if (this.inFlight > 0) this.#retry?.ref();
    if (this.#state !== 'ready' && this.#export && this.#expired()) this.#failAll();
    if (this.#state === 'ready' && this.#socket && this.#unsent.length > 0) this.#sendAll(this.#socket);
  }

  /** Nothing is in flight. */
  close(): void {
    if (this.#state === 'closed') return;
    const socket = this.#state === 'ready' ? this.#socket : undefined;
    this.#state = 'closed';
    clearTimeout(this.#retry);
    if (!socket) {
      this.#socket?.destroy();
      return;
    }
    const goodbye = Buffer.alloc(NBD_REQUEST_BYTES);
    encodeRequest(goodbye, 0, 0, { command: NbdCommand.disconnect, flags: 0, offset: 0, length: 0 });
    socket.end(goodbye);
    socket.unref();
  }

  #sendAll(socket: Socket): void {
    const headers = Buffer.allocUnsafe(this.#unsent.length * NBD_REQUEST_BYTES);
    socket.ref();
    socket.cork();
    this.#unsent.forEach((cookie, i) => {
      const request = this.#requests[cookie];
      if (!request) return;
      const at = i * NBD_REQUEST_BYTES;
      encodeRequest(headers, at, cookie, request);
      socket.write(headers.subarray(at, at + NBD_REQUEST_BYTES));
      if (request.command === NbdCommand.write) for (const piece of request.pieces) socket.write(piece);
    });
    this.#unsent.length = 0;
    socket.uncork();
  }

  #connect(): void {
    const received = this.#received;
    const onread = { buffer: received, callback: (bytes: number) => receive(received.subarray(0, bytes)) };
    const socket = connect({ path: this.#options.path, onread });
    const conversation = new Conversation(this.#converse(socket));
    const receive = (bytes: Buffer) => {
      try {
        conversation.feed(bytes);
      } catch (error) {
        socket.destroy(error as Error);
      }
      return true;
    };
    this.#socket = socket;
    this.#state = 'connecting';
    let failure: Error | undefined;
    socket.on('error', (error) => {
      failure = error;
    });
    socket.on('close', () => this.#closed(failure));
  }

  /** All that a connection says, from the greeting on. */
  *#converse(socket: Socket): Speaker<never> {
    const found = yield* negotiateExport(this.#options.exportName, (bytes) => socket.write(bytes));
    if (this.#export && found.size !== this.#export.size) throw broken('the export has another size than before');
    this.#export = found;
    this.#ready(socket, found);
    for (;;) {
      const reply = decodeSimpleReply(yield NBD_SIMPLE_REPLY_BYTES);
      if (!reply) throw broken('a reply is not one of NBD');
      const { cookie, errno } = reply;
      const request = this.#requests[cookie];
      if (!request) throw broken('a reply is to no request');
      if (errno === 0 && request.command === NbdCommand.read) yield* this.#fill(request);
      this.#useful();
      this.#finish(cookie, request, errno <= MAX_ERRNO ? -errno : Errno.EIO);
    }
  }

  *#fill(request: PendingRequest): Speaker<void> {
    for (const piece of request.pieces) {
      for (let at = 0; at < piece.length; ) {
        const bytes = yield at - piece.length;
        bytes.copy(piece, at);
        at += bytes.length;
      }
    }
  }

  #ready(socket: Socket, found: NbdExport): void {
    this.#state = 'ready';
    if (this.inFlight === 0) this.#useful();
    this.#onFirst?.(found);
    socket.unref();
    this.send();
  }

  #finish(cookie: number, request: PendingRequest, result: number): void {
    this.#requests[cookie] = undefined;
    this.#freeCookies.push(cookie);
    if (this.inFlight === 0) this.#socket?.unref();
    request.done(this.#remember(request, result));
  }

  /** Keeps account of what is not flushed. */
  #remember({ command }: PendingRequest, result: number): number {
    if (command !== NbdCommand.flush) {
      if (command !== NbdCommand.read) this.#unflushed = true;
      return result;
    }
    if (result === 0) this.#unflushed = false;
    const lost = this.#lost;
    this.#lost = false;
    return lost ? Errno.EOWNERDEAD : result;
  }

  #closed(failure: Error | undefined): void {
    if (this.#onFirst) {
      this.#state = 'closed';
      this.#onFirst(failure ?? new NbdError('ERR_ENDED', 'connect', 'it hangs up'));
      return;
    }
    if (this.#state === 'closed') return;
    if (this.#state === 'ready') {
      // One that comes back only to fail again, without an answer, has been away all the time.
      if (this.#progress) this.#downSince = performance.now();
      this.#progress = false;
      this.#lost ||= this.#unflushed;
      this.#unflushed = false;
      this.#tellLost(failure);
    }
    this.#state = 'down';
    this.#unsent.length = 0;
    for (let cookie = 0; cookie < this.#requests.length; cookie++) {
      if (this.#requests[cookie]) this.#unsent.push(cookie);
    }
    if (this.#expired()) this.#failAll();
    this.#retry = setTimeout(() => this.#connect(), RETRY_MS);
    if (this.inFlight === 0) this.#retry.unref();
  }

  #tellLost(failure: Error | undefined): void {
    if (this.#toldLost) return;
    this.#toldLost = true;
    if (!nbdLostChannel.hasSubscribers) return;
    const { path, exportName } = this.#options;
    nbdLostChannel.publish({ path, exportName, reason: failure?.message, inFlight: this.inFlight });
  }

  /** The server has answered, or is there and nothing was asked. */
  #useful(): void {
    this.#progress = true;
    if (!this.#toldLost) return;
    this.#toldLost = false;
    if (!nbdRestoredChannel.hasSubscribers) return;
    const { path, exportName } = this.#options;
    const awayMs = performance.now() - this.#downSince;
    nbdRestoredChannel.publish({ path, exportName, awayMs, lostWrites: this.#lost });
  }

  #expired(): boolean {
    return performance.now() - this.#downSince >= this.#options.reconnect;
  }

  #failAll(): void {
    for (const cookie of this.#unsent.splice(0)) {
      const request = this.#requests[cookie];
      if (request) this.#finish(cookie, request, Errno.EIO);
    }
  }
}

function broken(message: string): NbdError {
  return new NbdError('ERR_PROTOCOL', 'transmit', message);
}
