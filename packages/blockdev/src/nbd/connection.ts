import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  decodeSimpleReply,
  encodeRequest,
  knownNbdErrno,
  NBD_ESHUTDOWN,
  NBD_REQUEST_BYTES,
  NBD_SIMPLE_REPLY_BYTES,
  NbdCommand,
  NbdError,
  type NbdExport,
  type NbdRequest,
  negotiateExport,
  type Speaker,
} from '@xenpv/nbd';
import { nbdLostChannel, nbdRestoredChannel, reportUnfit } from '../diagnostics.js';
import { BlockDeviceError } from '../errors.js';
import { Errno } from '../queue/errno.js';
import { addressText, type NbdAddress } from './address.js';
import { unlikeBefore } from './export-check.js';
import { RequestTimes } from './request-times.js';
import { SilenceWatch } from './silence.js';
import type { UnflushedLog } from './unflushed/log.js';
import { Member } from './unflushed/members.js';
import { type RefusedWrites, Resending } from './unflushed/resending.js';
import { openWire } from './wire.js';

const RECEIVE_BYTES = 256 << 10;
/** Before a server that went away is looked for, and twice as long each further time. */
const RETRY_MS = 10;
const RETRY_MOST_MS = 250;
/** For a server that is there and answers nothing, once nobody wants its answers any more. */
const GIVE_UP_MS = 5000;
/** Between two tries to have all flushed. */
const SETTLE_PAUSE_MS = 20;
const NONE = -1;
const NO_BYTES = Buffer.alloc(0);

/** One request and where its answer goes. */
export interface PendingRequest extends NbdRequest {
  /** The data to send, or the memory for what is read. */
  readonly pieces: readonly Buffer[];
  /** Gets 0 or a negative errno. */
  readonly done: (result: number) => void;
}

export interface NbdConnectionOptions {
  readonly address: NbdAddress;
  readonly exportName: string;
  /** Milliseconds for which requests wait for a server that went away; Infinity: for as long as it takes. */
  readonly reconnect: number;
  /** Milliseconds after which a server that has not said what it exports is as one that is not there. */
  readonly negotiation: number;
  /** Milliseconds after which a server that has not answered a request is as one that went away; Infinity: never. */
  readonly silence: number;
  /** Makes the log of unflushed writes, or none, when the export is known. */
  readonly openLog: (found: NbdExport) => UnflushedLog | undefined;
  /** The server does not take what the log had when it was opened. */
  readonly onRefused?: ((refused: RefusedWrites) => void) | undefined;
}

/** `joined`: the server is there, and other requests come first, see unflushed/members.ts. */
type State = 'connecting' | 'joined' | 'ready' | 'down' | 'closed';

/**
 * A connection to an NBD server that comes back when the server does. Each request gets one answer: the server's, or
 * -EIO when the server has been away, or back or silent without an answer, for `reconnect` milliseconds. Requests without
 * an answer are sent again, so a server may carry one out twice: harmless, because requests in flight together have no
 * order. A write is over only when its bytes have left too: until then what is in its memory is what the server gets.
 *
 * What a server had acknowledged, but not flushed, when it went away is sent again before them, from the log that all
 * connections of the image share. A write that the log has no room for is answered when it has been flushed; a log that
 * is half full is flushed too. Where writes are gone all the same the next flush fails with EOWNERDEAD, once. A server
 * that comes back with another export, see export-check.ts, or that answers what was not asked, is not talked to.
 */
export class NbdConnection {
  readonly #options: NbdConnectionOptions;
  readonly #received = Buffer.allocUnsafe(RECEIVE_BYTES);
  /** By cookie. */
  readonly #requests: (PendingRequest | undefined)[] = [];
  readonly #freeCookies: number[] = [];
  readonly #unsent: number[] = [];
  readonly #times = new RequestTimes();
  readonly #silence: SilenceWatch;
  /** The connection that ends was ended for its server's silence. */
  #wasSilent = false;
  /** Bytes that were given to the socket. */
  #queued = 0;
  /** By cookie, of writes that were sent: where they end among those bytes. */
  readonly #endsAt: number[] = [];
  /** Cookies of requests that are nobody's but this connection's: they end with it. */
  readonly #own = new Set<number>();
  #export: NbdExport | undefined;
  /** An export that comes back has at least so many bytes. */
  #leastBytes = 0;
  /** Gets to know that the connection is made anew. */
  #onRenewed: (() => void) | undefined;
  #log: UnflushedLog | undefined;
  #member: Member | undefined;
  #mending: Resending | undefined;
  /** Cookies of writes that the server has acknowledged, and that wait for a flush for want of room in the log. */
  readonly #held: number[] = [];
  /** Writes that were held before the first of them. */
  #heldBefore = 0;
  /** By cookie, of flushes that were sent: what each covers. */
  readonly #marks: number[] = [];
  readonly #heldMarks: number[] = [];
  #ownFlush = NONE;
  #wantsRoom = false;
  /** Gets the result of the own flush that is in flight. */
  #onFlushed: ((result: number) => void) | undefined;
  #socket: Socket | undefined;
  #state: State = 'connecting';
  #downSince = 0;
  /** Since `#downSince` the server was of use: it has answered, or was there when nothing was asked. */
  #progress = false;
  /** It was told that the server is away, and not yet that it is back. */
  #toldLost = false;
  /** Why the server that is there is of no use, as it was told last. */
  #toldUnfit: string | undefined;
  #retry: NodeJS.Timeout | undefined;
  #retryMs = RETRY_MS;
  /** Queues whose requests are not worth waiting for. */
  #givenUp = 0;
  /** Gets the first export that is found, or why there is none. */
  #onFirst: ((found: NbdExport | Error) => void) | undefined;

  constructor(options: NbdConnectionOptions) {
    this.#options = options;
    this.#silence = new SilenceWatch(options.silence, this.#times, () => {
      this.#wasSilent = true;
      this.#socket?.destroy(broken(`it has not answered a request for ${options.silence / 1000} seconds`));
    });
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

  /**
   * The export has another size, that many bytes. Resolves when it is connected as such: a server may have a connection keep the
   * size of its beginning. What comes back later must not be smaller. Error: ETIMEDOUT, it is not connected within `ms`
   * milliseconds, and may be of any size from the smaller one on.
   */
  async resized(bytes: number, ms: number): Promise<void> {
    const before = this.#leastBytes;
    this.#leastBytes = bytes;
    if (this.#state === 'ready' && this.#export?.size === bytes) return;
    const renewed = new Promise<boolean>((resolve) => {
      const late = setTimeout(resolve, ms, false);
      this.#onRenewed = () => {
        clearTimeout(late);
        resolve(true);
      };
    });
    // What is being connected may have been told of another size.
    this.#socket?.destroy();
    const isRenewed = await renewed;
    this.#onRenewed = undefined;
    if (isRenewed) return;
    this.#leastBytes = Math.min(before, bytes);
    const message = `the export is not connected again within ${ms / 1000} seconds, after its size has changed`;
    throw new BlockDeviceError('ETIMEDOUT', 'resize', message, { path: addressText(this.#options.address) });
  }

  get inFlight(): number {
    return this.#requests.length - this.#freeCookies.length;
  }

  /** Queues a request for the next `send`. */
  add(request: PendingRequest): void {
    this.#unsent.push(this.#register(request));
  }

  send(): void {
    if (this.inFlight > 0) this.#retry?.ref();
    if (this.#state !== 'ready' && this.#export && this.#expired()) this.#failAll();
    if (this.#state === 'ready' && this.#socket && this.#unsent.length > 0) {
      this.#sendAll(this.#socket, this.#unsent);
      this.#unsent.length = 0;
    }
  }

  /**
   * A queue's requests are not worth waiting for any more: they fail if the server is away, or does not answer soon.
   * To be followed by one call of what it returns, when the queue has none.
   */
  giveUp(): () => void {
    this.#givenUp++;
    this.send();
    const timer = setTimeout(() => this.#socket?.destroy(), GIVE_UP_MS);
    return () => {
      clearTimeout(timer);
      this.#givenUp--;
    };
  }

  /**
   * Has what was written flushed, if that can be done within `ms` milliseconds: what is left in the log then is left to
   * the next process. Nothing is in flight.
   */
  async settle(ms: number): Promise<void> {
    if (this.#state !== 'ready' || !this.#log || this.#log.isEmpty) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<unknown>((resolve) => {
      this.#onFlushed = resolve;
      timer = setTimeout(resolve, ms, Errno.EIO);
      this.#flush();
    });
    clearTimeout(timer);
  }

  /** As `settle`, also when the server is away for now. Resolves with whether nothing is left. */
  async settled(ms: number): Promise<boolean> {
    const until = performance.now() + ms;
    while (this.#log && !this.#log.isEmpty) {
      const left = until - performance.now();
      if (left <= 0 || this.#state === 'closed') return false;
      await this.settle(left);
      if (!this.#log?.isEmpty) await sleep(SETTLE_PAUSE_MS);
    }
    return true;
  }

  /** Nothing is in flight. */
  close(): void {
    if (this.#state === 'closed') return;
    const socket = this.#state === 'ready' && this.inFlight === 0 ? this.#socket : undefined;
    this.#state = 'closed';
    clearTimeout(this.#retry);
    this.#silence.stop();
    this.#leaveLog();
    if (!socket) {
      this.#socket?.destroy();
      return;
    }
    const goodbye = Buffer.alloc(NBD_REQUEST_BYTES);
    encodeRequest(goodbye, 0, 0, { command: NbdCommand.disconnect, flags: 0, offset: 0, length: 0 });
    socket.end(goodbye);
    socket.unref();
  }

  #register(request: PendingRequest): number {
    const cookie = this.#freeCookies.pop() ?? this.#requests.length;
    this.#requests[cookie] = request;
    this.#times.asked(cookie);
    return cookie;
  }

  #sendAll(socket: Socket, cookies: readonly number[]): void {
    const headers = Buffer.allocUnsafe(cookies.length * NBD_REQUEST_BYTES);
    const now = performance.now();
    this.#silence.start();
    if (!socket.destroyed) socket.ref();
    socket.cork();
    for (let i = 0; i < cookies.length; i++) {
      const cookie = cookies[i];
      const request = this.#requests[cookie];
      if (!request) continue;
      if (request.command === NbdCommand.flush) this.#markFlush(cookie);
      const at = i * NBD_REQUEST_BYTES;
      encodeRequest(headers, at, cookie, request);
      this.#times.sent(cookie, now);
      this.#queued += NBD_REQUEST_BYTES;
      socket.write(headers.subarray(at, at + NBD_REQUEST_BYTES));
      if (request.command !== NbdCommand.write) continue;
      for (const piece of request.pieces) socket.write(piece);
      this.#queued += request.length;
      this.#endsAt[cookie] = this.#queued;
    }
    socket.uncork();
  }

  #connect(): void {
    const { address, negotiation } = this.#options;
    this.#queued = 0;
    this.#state = 'connecting';
    const late = setTimeout(() => {
      if (this.#state !== 'connecting') return;
      this.#socket?.destroy(broken(`it says nothing for ${negotiation / 1000} seconds`));
    }, negotiation).unref();
    openWire({
      address,
      received: this.#received,
      converse: (socket, { greeted }) => this.#converse(socket, greeted),
      onReceived: () => {
        if (this.#wantsRoom) this.#flush();
      },
      onSocket: (socket) => {
        this.#socket = socket;
      },
      onClosed: (failure) => {
        clearTimeout(late);
        this.#closed(failure);
      },
    });
  }

  /** All that a connection says, from the greeting on. */
  *#converse(socket: Socket, greeted: boolean): Speaker<never> {
    const send = (bytes: Buffer) => {
      this.#queued += bytes.length;
      socket.write(bytes);
    };
    const found = yield* negotiateExport(this.#options.exportName, send, { greeted });
    const unlike = this.#export && unlikeBefore(found, this.#export, this.#leastBytes);
    if (unlike !== undefined) throw broken(unlike);
    this.#joined(found);
    for (;;) {
      const reply = decodeSimpleReply(yield NBD_SIMPLE_REPLY_BYTES);
      if (!reply) throw broken('a reply is not one of NBD');
      const { cookie, errno } = reply;
      const request = this.#requests[cookie];
      if (!request) throw broken('a reply is to no request');
      if (errno === NBD_ESHUTDOWN) throw broken('it is about to end');
      if (errno === 0 && request.command === NbdCommand.read) yield* this.#fill(request);
      this.#times.ended(cookie);
      if (this.#state === 'ready') this.#useful();
      const result = errno === 0 ? 0 : -knownNbdErrno(errno);
      if (request.command !== NbdCommand.write || this.#hasLeft(socket, cookie))
        this.#answered(cookie, request, result);
      else this.#whenLeft(socket, cookie, request, result);
    }
  }

  /** Whether the kernel has all bytes of a write. */
  #hasLeft(socket: Socket, cookie: number): boolean {
    return this.#queued - socket.writableLength >= this.#endsAt[cookie];
  }

  /** The server has answered a write that it cannot have read. If the connection ends before, it is sent again. */
  #whenLeft(socket: Socket, cookie: number, request: PendingRequest, result: number): void {
    socket.write(NO_BYTES, (error) => {
      const isOver = !error && socket === this.#socket && this.#requests[cookie] === request;
      if (isOver) this.#answered(cookie, request, result);
    });
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

  #joined(found: NbdExport): void {
    if (!this.#export) {
      this.#leastBytes = found.size;
      this.#log = this.#options.openLog(found);
      this.#member = this.#log && new Member(this.#log, () => this.#look());
    }
    this.#export = found;
    this.#state = 'joined';
    this.#look();
  }

  /** What other connections do has changed, or what this one is. */
  #look(): void {
    const member = this.#member;
    if (this.#state === 'ready') {
      if (member && !member.isMended) this.#socket?.destroy();
      return;
    }
    if (this.#state !== 'joined' || this.#mending) return;
    if (!member || member.beginSending()) this.#ready();
    else if (member.beginMending()) this.#mend(member);
  }

  /** Sends the unflushed writes again, before anybody sends anything else. */
  #mend(member: Member): void {
    const log = this.#log;
    const socket = this.#socket;
    if (!log || !socket) return;
    const mending = new Resending({
      log,
      send: (writes) => {
        const cookies = writes.map((write) => {
          const { command, offset, length, pieces } = write;
          const done = (result: number) => mending.ended(write, result);
          return this.#register({ command, flags: 0, offset, length, pieces, done });
        });
        for (const cookie of cookies) this.#own.add(cookie);
        this.#sendAll(socket, cookies);
      },
      done: ({ resent, refused }) => {
        this.#mending = undefined;
        if (refused) {
          log.lost();
          // Later there is a server that comes back, of which is told that it does without them.
          if (this.#onFirst) this.#options.onRefused?.(refused);
        }
        member.mended(resent);
        this.#look();
      },
    });
    this.#mending = mending;
    mending.start();
  }

  #ready(): void {
    this.#state = 'ready';
    this.#retryMs = RETRY_MS;
    if (this.inFlight === 0) this.#useful();
    if (this.#export) this.#onFirst?.(this.#export);
    this.#onRenewed?.();
    this.#rest();
    this.send();
  }

  #answered(cookie: number, request: PendingRequest, result: number): void {
    const log = this.#log;
    if (log && !this.#own.has(cookie) && result === 0 && changes(request)) {
      const { command, offset, length, pieces } = request;
      if (!log.add(command, offset, length, pieces)) {
        this.#held.push(cookie);
        this.#wantsRoom = true;
        return;
      }
      if (log.isFilling) this.#wantsRoom = true;
    }
    const told = request.command === NbdCommand.flush ? this.#flushed(cookie, result) : result;
    this.#finish(cookie, request, told);
  }

  #finish(cookie: number, request: PendingRequest, result: number): void {
    this.#forget(cookie);
    this.#rest();
    request.done(result);
  }

  /**
   * A connection that nobody waits for does not keep the process alive. Node would note that anew, each time, for one that
   * has ended, to do it when it connects.
   */
  #rest(): void {
    if (this.inFlight === 0 && this.#socket?.destroyed === false) this.#socket.unref();
  }

  #forget(cookie: number): void {
    this.#requests[cookie] = undefined;
    this.#freeCookies.push(cookie);
    this.#own.delete(cookie);
  }

  #markFlush(cookie: number): void {
    if (!this.#log) return;
    this.#marks[cookie] = this.#log.mark;
    this.#heldMarks[cookie] = this.#heldBefore + this.#held.length;
  }

  /** Sends a flush of our own, unless one is in flight. */
  #flush(): void {
    this.#wantsRoom = false;
    const socket = this.#socket;
    if (this.#ownFlush !== NONE || this.#state !== 'ready' || !socket) return;
    const request = { command: NbdCommand.flush, flags: 0, offset: 0, length: 0, pieces: [], done: () => {} };
    this.#ownFlush = this.#register(request);
    this.#own.add(this.#ownFlush);
    this.#sendAll(socket, [this.#ownFlush]);
  }

  /** What a flush has covered is forgotten, or done. Returns the result for whoever asked for it. */
  #flushed(cookie: number, result: number): number {
    const log = this.#log;
    if (!log) return result;
    const isOwn = cookie === this.#ownFlush;
    const released = result === 0 && log.release(this.#marks[cookie]);
    if (released || (isOwn && result < 0)) this.#endHeld(this.#heldMarks[cookie], result);
    if (isOwn) {
      this.#ownFlush = NONE;
      this.#onFlushed?.(result);
      this.#onFlushed = undefined;
    } else if (result === 0 && log.takeLost()) return Errno.EOWNERDEAD;
    if (this.#held.length > 0) this.#wantsRoom = true;
    return result;
  }

  /** Those that were held before `end`. */
  #endHeld(end: number, result: number): void {
    for (; this.#heldBefore < end && this.#held.length > 0; this.#heldBefore++) {
      const cookie = this.#held.shift() ?? NONE;
      const request = this.#requests[cookie];
      if (request) this.#finish(cookie, request, result);
    }
  }

  #closed(failure: Error | undefined): void {
    this.#dropOwn();
    if (this.#onFirst) {
      this.#state = 'closed';
      this.#leaveLog();
      this.#onFirst(failure ?? new NbdError('ERR_ENDED', 'connect', 'it hangs up'));
      return;
    }
    if (this.#state === 'closed') return;
    if (this.#state === 'ready') {
      // One that comes back only to fail again, without an answer, has been away all the time.
      if (this.#progress) this.#downSince = performance.now();
      this.#progress = false;
      this.#tellLost(failure);
      this.#member?.lost();
    } else if (failure instanceof NbdError) this.#tellUnfit(failure.message);
    this.#state = 'down';
    this.#silence.stop();
    this.#unsent.length = 0;
    if (this.#wasSilent) this.#failOld();
    this.#wasSilent = false;
    for (let cookie = 0; cookie < this.#requests.length; cookie++) {
      if (this.#requests[cookie]) this.#unsent.push(cookie);
    }
    if (this.#expired()) this.#failAll();
    this.#retry = setTimeout(() => this.#connect(), this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MOST_MS);
    if (this.inFlight === 0) this.#retry.unref();
  }

  /** What this connection has asked for itself ends with it. Held writes were not answered: they are sent again. */
  #dropOwn(): void {
    for (const cookie of this.#own) this.#forget(cookie);
    this.#ownFlush = NONE;
    this.#wantsRoom = false;
    this.#onFlushed?.(Errno.EIO);
    this.#onFlushed = undefined;
    this.#heldBefore += this.#held.length;
    this.#held.length = 0;
    if (this.#mending) this.#member?.gaveUp();
    this.#mending = undefined;
  }

  #leaveLog(): void {
    this.#dropOwn();
    this.#member?.leave();
    this.#member = undefined;
    this.#log = undefined;
  }

  #tellLost(failure: Error | undefined): void {
    if (this.#toldLost) return;
    this.#toldLost = true;
    if (!nbdLostChannel.hasSubscribers) return;
    const { exportName } = this.#options;
    const path = addressText(this.#options.address);
    nbdLostChannel.publish({ path, exportName, reason: failure?.message, inFlight: this.inFlight });
  }

  /** Somebody answers where the server was. Once for each reason: it is asked again and again. */
  #tellUnfit(reason: string): void {
    if (this.#toldUnfit === reason) return;
    this.#toldUnfit = reason;
    const { address, exportName } = this.#options;
    reportUnfit({ path: addressText(address), exportName, reason, inFlight: this.inFlight });
  }

  /** The server has answered, or is there and nothing was asked. */
  #useful(): void {
    this.#progress = true;
    this.#toldUnfit = undefined;
    if (!this.#toldLost) return;
    this.#toldLost = false;
    if (!nbdRestoredChannel.hasSubscribers) return;
    const { exportName } = this.#options;
    const path = addressText(this.#options.address);
    const awayMs = performance.now() - this.#downSince;
    const resent = this.#member?.resent ?? 0;
    nbdRestoredChannel.publish({ path, exportName, awayMs, resent, lostWrites: this.#log?.hasLost ?? false });
  }

  #expired(): boolean {
    return this.#givenUp > 0 || performance.now() - this.#downSince >= this.#options.reconnect;
  }

  /** Those that have waited for so long, whatever the server did with others. */
  #failOld(): void {
    const now = performance.now();
    for (let cookie = 0; cookie < this.#requests.length; cookie++) {
      const request = this.#requests[cookie];
      if (request && this.#times.age(cookie, now) >= this.#options.reconnect) this.#finish(cookie, request, Errno.EIO);
    }
  }

  #failAll(): void {
    for (const cookie of this.#unsent.splice(0)) {
      const request = this.#requests[cookie];
      if (request) this.#finish(cookie, request, Errno.EIO);
    }
  }
}

function changes({ command }: NbdRequest): boolean {
  return command !== NbdCommand.read && command !== NbdCommand.flush;
}

function broken(message: string): NbdError {
  return new NbdError('ERR_PROTOCOL', 'transmit', message);
}
