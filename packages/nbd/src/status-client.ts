/**
 * A client that asks a server for block status and for nothing else, one question after the other. The server is not trusted:
 * what it says has bounds, and one that says anything else is hung up on.
 */
import type { Socket } from 'node:net';
import { negotiateStatus } from './client-negotiation.js';
import type { Speaker } from './conversation.js';
import { NbdError } from './errors.js';
import { NBD_CHUNK_ERROR, NbdChunk, NbdCommand } from './protocol/numbers.js';
import {
  decodeChunk,
  decodeStatus,
  encodeRequest,
  NBD_CHUNK_BYTES,
  NBD_REQUEST_BYTES,
  type NbdExtent,
} from './protocol/requests.js';
import { SocketReader } from './reader.js';

/** What one context may say of one range; QEMU says a mebibyte at most. */
const MOST_CHUNK_BYTES = (1 << 20) + 4;

/** What {@link NbdStatusClient.open} needs. */
export interface StatusClientOptions {
  /** The server's name for the export; the empty one is its default. */
  readonly exportName: string;
  /** All that are to be told of. */
  readonly contexts: readonly string[];
  /** Milliseconds for each answer, and for the beginning; one that is late ends the connection. */
  readonly answerMs: number;
}

/** Ranges by the names of their contexts. Each begins where the question does, and may end before or after it. */
export type BlockStatus = ReadonlyMap<string, readonly NbdExtent[]>;

/** A connection that only asks what there is of an export: NBD_CMD_BLOCK_STATUS, one question at a time. */
export class NbdStatusClient {
  readonly #socket: Socket;
  readonly #reader: SocketReader;
  readonly #answerMs: number;
  #contexts: ReadonlyMap<number, string> = new Map();
  #cookie = 0;
  #asking: Promise<unknown> = Promise.resolve();
  /** Resolves when the connection has ended, whoever has ended it. */
  readonly closed: Promise<void>;

  private constructor(socket: Socket, answerMs: number) {
    this.#socket = socket;
    this.#answerMs = answerMs;
    socket.on('error', () => {});
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    this.#reader = new SocketReader(socket);
  }

  /** `socket` connects, or is connected. Errors: NbdError, ERR_ENDED also of one that is late. */
  static async open(socket: Socket, { exportName, contexts, answerMs }: StatusClientOptions): Promise<NbdStatusClient> {
    const client = new NbdStatusClient(socket, answerMs);
    const send = (bytes: Buffer) => void socket.write(bytes);
    client.#contexts = await client.#inTime(() => client.#speak(negotiateStatus(exportName, contexts, send)));
    return client;
  }

  /** Errors: NbdError, and the connection has ended but for ERR_REFUSED, the server cannot tell. */
  status(offset: number, length: number): Promise<BlockStatus> {
    const asked = this.#asking.then(() => this.#inTime(() => this.#status(offset, length)));
    this.#asking = asked.catch(() => {});
    return asked;
  }

  /** Ends the connection; who still waits for an answer gets ERR_ENDED. Harmless when repeated. */
  close(): void {
    this.#socket.destroy();
  }

  async #inTime<T>(work: () => Promise<T>): Promise<T> {
    const late = setTimeout(() => this.close(), this.#answerMs);
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof NbdError && error.code === 'ERR_REFUSED')) this.close();
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  async #speak<T>(speaker: Speaker<T>): Promise<T> {
    let next = speaker.next(Buffer.alloc(0));
    while (!next.done) next = speaker.next(await this.#reader.read(next.value));
    return next.value;
  }

  async #status(offset: number, length: number): Promise<BlockStatus> {
    const request = Buffer.alloc(NBD_REQUEST_BYTES);
    this.#cookie = (this.#cookie + 1) >>> 0;
    encodeRequest(request, 0, this.#cookie, { command: NbdCommand.blockStatus, flags: 0, offset, length });
    this.#socket.write(request);
    const found = new Map<string, readonly NbdExtent[]>();
    let isRefused = false;
    for (let isLast = false; !isLast; ) {
      const chunk = decodeChunk(await this.#reader.read(NBD_CHUNK_BYTES));
      if (chunk?.cookie !== this.#cookie || chunk.length > MOST_CHUNK_BYTES) throw broken();
      const payload = await this.#reader.read(chunk.length);
      isLast = chunk.isLast;
      if ((chunk.type & NBD_CHUNK_ERROR) !== 0) isRefused = true;
      else if (chunk.type !== NbdChunk.blockStatus) throw broken();
      else this.#take(found, payload);
    }
    if (isRefused) throw new NbdError('ERR_REFUSED', 'transmit', 'the server cannot tell');
    if (found.size < this.#contexts.size) throw broken();
    return found;
  }

  #take(found: Map<string, readonly NbdExtent[]>, payload: Buffer): void {
    const status = decodeStatus(payload);
    const name = status && this.#contexts.get(status.context);
    if (name === undefined || found.has(name) || status?.extents.some(({ length }) => length === 0)) throw broken();
    found.set(name, status?.extents ?? []);
  }
}

function broken(): NbdError {
  return new NbdError('ERR_PROTOCOL', 'transmit', 'its answer is not one of block status');
}
