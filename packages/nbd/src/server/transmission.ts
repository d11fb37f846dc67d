import type { Socket } from 'node:net';
import type { NbdContext, NbdDisk } from '../disk.js';
import { NbdError } from '../errors.js';
import { NBD_MAX_REQUEST, NbdCommand, NbdCommandFlag, NbdErrno, nbdErrnoOf } from '../protocol/numbers.js';
import {
  decodeRequest,
  encodeDataChunk,
  encodeErrorChunk,
  encodeSimpleReply,
  encodeStatusChunk,
  NBD_REQUEST_BYTES,
  type NbdRequest,
} from '../protocol/requests.js';
import type { SocketReader } from '../reader.js';
import { statusOf } from './contexts.js';
import type { NbdSession } from './negotiation.js';

/** What one connection may have in flight; beyond it the next request waits in the socket. */
const MAX_REQUESTS = 128;
const MAX_BYTES = 2 * NBD_MAX_REQUEST;
/** Bytes of zeroes written at once where the disk cannot write zeroes itself. */
const ZERO_BYTES = 1024 * 1024;

interface Request extends NbdRequest {
  readonly cookie: Buffer;
}

/** The flags that each command takes; others are refused. */
const ALLOWED_FLAGS: Record<number, number> = {
  [NbdCommand.read]: NbdCommandFlag.fua | NbdCommandFlag.df,
  [NbdCommand.write]: NbdCommandFlag.fua,
  [NbdCommand.flush]: NbdCommandFlag.fua,
  [NbdCommand.trim]: NbdCommandFlag.fua,
  [NbdCommand.writeZeroes]: NbdCommandFlag.fua | NbdCommandFlag.noHole,
  [NbdCommand.blockStatus]: NbdCommandFlag.reqOne,
};

/** Commands that change nothing. Their replies are structured where the client takes such. */
const ASKING: readonly number[] = [NbdCommand.read, NbdCommand.blockStatus];

/** Serves one client's requests, which are carried out side by side and answered as they end. */
export class NbdTransmission {
  readonly #socket: Socket;
  readonly #reader: SocketReader;
  readonly #disk: NbdDisk;
  readonly #structured: boolean;
  readonly #contexts: readonly NbdContext[];
  #requests = 0;
  #bytes = 0;
  #progress: (() => void) | undefined;

  constructor(socket: Socket, reader: SocketReader, session: NbdSession) {
    this.#socket = socket;
    this.#reader = reader;
    this.#disk = session.disk;
    this.#structured = session.structuredReplies;
    this.#contexts = session.contexts;
    const wake = () => this.#progress?.();
    socket.on('drain', wake);
    socket.on('close', wake);
  }

  /** Resolves when the client has said goodbye or gone, and all requests in flight have ended. */
  async serve(): Promise<void> {
    try {
      while (await this.#next());
    } catch (error) {
      if (!(error instanceof NbdError)) throw error;
    } finally {
      while (this.#requests > 0) await this.#wait();
    }
  }

  /** Takes one request; false at the end. */
  async #next(): Promise<boolean> {
    const request = decodeRequest(await this.#reader.read(NBD_REQUEST_BYTES));
    if (!request) throw new NbdError('ERR_PROTOCOL', 'transmit', 'not an NBD request');
    if (request.command === NbdCommand.disconnect) return false;
    const isWrite = request.command === NbdCommand.write;
    const refusal = this.#check(request);
    if (refusal !== 0) {
      await this.#reader.untilTaken();
      if (isWrite) await this.#reader.skip(request.length);
      this.#fail(request, refusal, 'bad request');
      return true;
    }
    await this.#room(isWrite || request.command === NbdCommand.read ? request.length : 0);
    const data = isWrite ? await this.#reader.read(request.length) : undefined;
    void this.#carryOut(request, data);
    return true;
  }

  /** 0, or the NBD errno for a request that the disk must not see. */
  #check({ command, flags, offset, length }: Request): number {
    const allowed = ALLOWED_FLAGS[command];
    if (allowed === undefined || (flags & ~allowed) !== 0) return NbdErrno.EINVAL;
    if (command === NbdCommand.flush) return 0;
    const writes = !ASKING.includes(command);
    if (writes && this.#disk.readOnly) return NbdErrno.EPERM;
    if (command === NbdCommand.trim && !this.#disk.discard) return NbdErrno.EINVAL;
    if (!writes && (flags & NbdCommandFlag.df) !== 0 && !this.#structured) return NbdErrno.EINVAL;
    if (command === NbdCommand.blockStatus && this.#contexts.length === 0) return NbdErrno.EINVAL;
    const hasData = command === NbdCommand.read || command === NbdCommand.write;
    if (length === 0 || (hasData && length > NBD_MAX_REQUEST)) return NbdErrno.EINVAL;
    if (offset % this.#disk.blockSize !== 0 || length % this.#disk.blockSize !== 0) return NbdErrno.EINVAL;
    if (offset + length > this.#disk.size) return writes ? NbdErrno.ENOSPC : NbdErrno.EINVAL;
    return 0;
  }

  /** Waits until another request of `bytes` of data may be in flight, and the client takes its answers. */
  async #room(bytes: number): Promise<void> {
    while (
      this.#requests >= MAX_REQUESTS ||
      (this.#requests > 0 && this.#bytes + bytes > MAX_BYTES) ||
      (this.#socket.writableLength > NBD_MAX_REQUEST && !this.#socket.destroyed)
    ) {
      await this.#wait();
    }
  }

  #wait(): Promise<void> {
    return new Promise((resolve) => {
      this.#progress = () => {
        this.#progress = undefined;
        resolve();
      };
    });
  }

  async #carryOut(request: Request, data: Uint8Array | undefined): Promise<void> {
    const bytes = request.command === NbdCommand.read ? request.length : (data?.length ?? 0);
    this.#requests++;
    this.#bytes += bytes;
    try {
      if (request.command === NbdCommand.read) {
        this.#sendData(request, await this.#disk.read(request.offset, request.length));
      } else if (request.command === NbdCommand.blockStatus) {
        await this.#tellStatus(request);
      } else {
        await this.#change(request, data);
        this.#send(encodeSimpleReply(request.cookie, 0));
      }
    } catch (error) {
      this.#fail(request, nbdErrnoOf(error), (error as Error).message);
    } finally {
      this.#requests--;
      this.#bytes -= bytes;
      this.#progress?.();
    }
  }

  /** One chunk for each context, in one piece. */
  async #tellStatus({ cookie, flags, ...range }: Request): Promise<void> {
    const most = (flags & NbdCommandFlag.reqOne) === 0 ? undefined : 1;
    const found = await Promise.all(this.#contexts.map((context) => statusOf(context, { ...range, most })));
    const last = found.length - 1;
    const chunks = found.map((extents, id) => encodeStatusChunk(cookie, id, { extents, isLast: id === last }));
    this.#send(Buffer.concat(chunks));
  }

  async #change({ command, flags, offset, length }: Request, data: Uint8Array | undefined): Promise<void> {
    if (data) await this.#disk.write(offset, data);
    else if (command === NbdCommand.trim) await this.#disk.discard?.(offset, length);
    else if (command === NbdCommand.writeZeroes) await this.#writeZeroes(offset, length);
    if (command === NbdCommand.flush || (flags & NbdCommandFlag.fua) !== 0) await this.#disk.flush();
  }

  async #writeZeroes(offset: number, length: number): Promise<void> {
    if (this.#disk.writeZeroes) return this.#disk.writeZeroes(offset, length);
    const zeroes = new Uint8Array(Math.min(length, ZERO_BYTES));
    for (let done = 0; done < length; done += zeroes.length) {
      await this.#disk.write(offset + done, zeroes.subarray(0, Math.min(zeroes.length, length - done)));
    }
  }

  #sendData(request: Request, data: Uint8Array): void {
    const { cookie, offset, length } = request;
    if (this.#socket.destroyed) return;
    this.#socket.cork();
    this.#socket.write(this.#structured ? encodeDataChunk(cookie, offset, length) : encodeSimpleReply(cookie, 0));
    this.#socket.write(data);
    this.#socket.uncork();
  }

  /** With structured replies what fails to tell says why; every other command's reply is simple. */
  #fail(request: Request, errno: number, message: string): void {
    const structured = this.#structured && ASKING.includes(request.command);
    this.#send(
      structured ? encodeErrorChunk(request.cookie, errno, message) : encodeSimpleReply(request.cookie, errno),
    );
  }

  #send(reply: Buffer): void {
    if (!this.#socket.destroyed) this.#socket.write(reply);
  }
}
