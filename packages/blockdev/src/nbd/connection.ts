import { connect, type Socket } from 'node:net';
import {
  decodeSimpleReply,
  encodeRequest,
  NBD_REQUEST_BYTES,
  NBD_SIMPLE_REPLY_BYTES,
  NbdCommand,
  type NbdExport,
  NbdRefusal,
  negotiateExport,
} from '@xenpv/nbd';
import { Errno } from '../queue/errno.js';

const RECEIVE_BYTES = 256 << 10;
const RETRY_MS = 100;

/** One request and where its answer goes. */
export interface NbdRequest {
  readonly command: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
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
 * A connection to an NBD server that comes back when the server does. Requests that were not answered are sent again;
 * after `reconnect` milliseconds they fail with -EIO. What a server had acknowledged, but not flushed, when it went
 * away may be lost: the next flush fails.
 */
export class NbdConnection {
  readonly #options: NbdConnectionOptions;
  readonly #received = Buffer.allocUnsafe(RECEIVE_BYTES);
  /** By cookie. */
  readonly #requests: (NbdRequest | undefined)[] = [];
  readonly #freeCookies: number[] = [];
  readonly #unsent: number[] = [];
  #export: NbdExport | undefined;
  #socket: Socket | undefined;
  #parser: Generator<number, unknown, Buffer> | undefined;
  /** How many bytes the parser waits for, and those of them that are here. */
  #needed = 0;
  readonly #collected: Buffer[] = [];
  #state: State = 'connecting';
  #downSince = 0;
  #retry: NodeJS.Timeout | undefined;
  #unflushed = false;
  #lost = false;
  #onFirst: ((error: Error | undefined) => void) | undefined;

  constructor(options: NbdConnectionOptions) {
    this.#options = options;
  }

  /** Connects for the first time; rejects with the system's error, NbdRefusal or the signal's reason. */
  async open(signal?: AbortSignal): Promise<NbdExport> {
    signal?.throwIfAborted();
    const abort = () => this.#socket?.destroy();
    signal?.addEventListener('abort', abort);
    try {
      return await new Promise((resolve, reject) => {
        this.#onFirst = (error) => {
          this.#onFirst = undefined;
          if (error) reject(error);
          else resolve(this.#export!);
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
  add(request: NbdRequest): void {
    const cookie = this.#freeCookies.pop() ?? this.#requests.length;
    this.#requests[cookie] = request;
    this.#unsent.push(cookie);
  }

  send(): void {
    if (this.inFlight > 0) this.#retry?.ref();
    if (this.#state !== 'ready' && this.#export && this.#expired()) this.#failAll();
    if (this.#state !== 'ready' || this.#unsent.length === 0) return;
    const socket = this.#socket!;
    const headers = Buffer.allocUnsafe(this.#unsent.length * NBD_REQUEST_BYTES);
    socket.ref();
    socket.cork();
    this.#unsent.forEach((cookie, i) => {
      const request = this.#requests[cookie]!;
      const at = i * NBD_REQUEST_BYTES;
      encodeRequest(headers, at, { ...request, cookie });
      socket.write(headers.subarray(at, at + NBD_REQUEST_BYTES));
      if (request.command === NbdCommand.write) for (const piece of request.pieces) socket.write(piece);
    });
    this.#unsent.length = 0;
    socket.uncork();
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
    encodeRequest(goodbye, 0, { command: NbdCommand.disconnect, flags: 0, cookie: 0, offset: 0, length: 0 });
    socket.end(goodbye);
    socket.unref();
  }

  #connect(): void {
    const onread = { buffer: this.#received, callback: (bytes: number) => this.#receive(bytes) };
    const socket = connect({ path: this.#options.path, onread });
    this.#socket = socket;
    this.#state = 'connecting';
    this.#parser = this.#converse(socket);
    this.#collected.length = 0;
    this.#needed = this.#parser.next().value as number;
    let failure: Error | undefined;
    socket.on('error', (error) => {
      failure = error;
    });
    socket.on('close', () => this.#closed(failure));
  }

  /** All that a connection says, from the greeting on: yields how many bytes come next. */
  *#converse(socket: Socket): Generator<number, void, Buffer> {
    const found = yield* negotiateExport(this.#options.exportName, (bytes) => socket.write(bytes));
    if (this.#export && found.size !== this.#export.size)
      throw new NbdRefusal('the export has another size than before');
    this.#export = found;
    this.#ready();
    for (;;) {
      const reply = decodeSimpleReply(yield NBD_SIMPLE_REPLY_BYTES);
      if (!reply) throw new NbdRefusal('a reply is not one of NBD');
      const { cookie, error } = reply;
      const request = this.#requests[cookie];
      if (!request) throw new NbdRefusal('a reply is to no request');
      if (error === 0 && request.command === NbdCommand.read) yield* this.#fill(request);
      this.#finish(cookie, error === 0 ? 0 : -error);
    }
  }

  *#fill(request: NbdRequest): Generator<number, void, Buffer> {
    for (const piece of request.pieces) {
      for (let at = 0; at < piece.length; ) {
        // Negative: any number of bytes up to this one will do.
        const bytes = yield at - piece.length;
        bytes.copy(piece, at);
        at += bytes.length;
      }
    }
  }

  #receive(bytes: number): boolean {
    try {
      for (let at = 0; at < bytes; ) at += this.#take(at, bytes);
    } catch (error) {
      this.#socket?.destroy(error as Error);
    }
    return true;
  }

  /** Gives the conversation what it waits for from `#received[at .. end)`; returns how much was used. */
  #take(at: number, end: number): number {
    if (this.#needed < 0) {
      const part = this.#received.subarray(at, Math.min(end, at - this.#needed));
      this.#needed = this.#parser!.next(part).value as number;
      return part.length;
    }
    const have = this.#collected.reduce((sum, each) => sum + each.length, 0);
    const part = this.#received.subarray(at, Math.min(end, at + this.#needed - have));
    if (have + part.length < this.#needed) {
      this.#collected.push(Buffer.from(part));
      return part.length;
    }
    const whole = have === 0 ? part : Buffer.concat([...this.#collected, part]);
    this.#collected.length = 0;
    this.#needed = this.#parser!.next(whole).value as number;
    return part.length;
  }

  #ready(): void {
    this.#state = 'ready';
    this.#onFirst?.(undefined);
    this.#socket!.unref();
    this.send();
  }

  #finish(cookie: number, result: number): void {
    const request = this.#requests[cookie]!;
    this.#requests[cookie] = undefined;
    this.#freeCookies.push(cookie);
    if (this.inFlight === 0) this.#socket?.unref();
    request.done(this.#remember(request, result));
  }

  /** Keeps account of what is not flushed. */
  #remember({ command }: NbdRequest, result: number): number {
    if (command !== NbdCommand.flush) {
      if (command !== NbdCommand.read) this.#unflushed = true;
      return result;
    }
    if (result === 0) this.#unflushed = false;
    const lost = this.#lost;
    this.#lost = false;
    return lost ? Errno.EIO : result;
  }

  #closed(failure: Error | undefined): void {
    if (this.#onFirst) {
      this.#state = 'closed';
      this.#onFirst(failure ?? new NbdRefusal('it hangs up'));
      return;
    }
    if (this.#state === 'closed') return;
    if (this.#state === 'ready') {
      this.#downSince = performance.now();
      this.#lost ||= this.#unflushed;
      this.#unflushed = false;
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

  #expired(): boolean {
    return performance.now() - this.#downSince >= this.#options.reconnect;
  }

  #failAll(): void {
    const cookies = this.#unsent.splice(0);
    for (const cookie of cookies) this.#finish(cookie, Errno.EIO);
  }
}
