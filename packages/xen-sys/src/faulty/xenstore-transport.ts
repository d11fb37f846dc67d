import type { XenstoreTransport, XenstoreTransportListener } from '../xenstore-transport.js';
import type { Faults } from './faults.js';

/** Of xs_wire.h: what a transport need not know, but whoever refuses a request must. */
const HEADER_BYTES = 16;
const XS_TRANSACTION_END = 7;
const XS_ERROR = 16;

/** A connection to xenstored whose requests may be refused or lost. */
export class FaultyTransport implements XenstoreTransport {
  readonly description: string;
  readonly maxPayload: number;
  readonly #inner: XenstoreTransport;
  readonly #faults: Faults;
  /** Requests whose answers the client does not get. */
  readonly #unanswered = new Set<number>();
  #listener: XenstoreTransportListener | undefined;
  #rest = Buffer.alloc(0);

  constructor(inner: XenstoreTransport, faults: Faults) {
    this.#inner = inner;
    this.#faults = faults;
    this.description = inner.description;
    this.maxPayload = inner.maxPayload;
  }

  start(listener: XenstoreTransportListener): void {
    this.#listener = listener;
    this.#inner.start({ data: (chunk) => this.#receive(chunk), close: (error) => this.#close(error) });
  }

  send(bytes: Uint8Array): void {
    const message = Buffer.from(bytes);
    const fault = this.#faults.next('xenstoreRequest', { type: message.readUInt32LE(0) });
    if (fault === undefined) this.#inner.send(bytes);
    else if ('error' in fault) this.#refuse(message, fault.error);
    else if (fault.lost === 'before') this.#lose();
    else this.#loseAfter(message);
  }

  ref(): void {
    this.#inner.ref();
  }

  unref(): void {
    this.#inner.unref();
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #receive(chunk: Uint8Array): void {
    let rest = this.#rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#rest, chunk]);
    while (rest.length >= HEADER_BYTES) {
      const length = HEADER_BYTES + rest.readUInt32LE(12);
      if (rest.length < length) break;
      const message = rest.subarray(0, length);
      rest = rest.subarray(length);
      if (!this.#unanswered.delete(message.readUInt32LE(4))) this.#listener?.data(message);
    }
    this.#rest = rest;
  }

  /** xenstored gets the request, the client no answer. */
  #loseAfter(message: Buffer): void {
    this.#unanswered.add(message.readUInt32LE(4));
    this.#inner.send(message);
    setImmediate(() => this.#lose());
  }

  /** A transaction whose end is refused is over all the same. */
  #refuse(message: Buffer, error: string): void {
    if (message.readUInt32LE(0) === XS_TRANSACTION_END) {
      this.#unanswered.add(message.readUInt32LE(4));
      const abort = Buffer.from(message);
      abort.write('F', HEADER_BYTES);
      this.#inner.send(abort);
    }
    setImmediate(() => this.#listener?.data(errorReply(message, error)));
  }

  /** The connection ends, as when xenstored dies. */
  #lose(): void {
    void this.#inner.close();
    this.#close(new Error(`${this.description}: the connection was lost, as the plan of faults says`));
  }

  #close(error: Error | undefined): void {
    const listener = this.#listener;
    this.#listener = undefined;
    listener?.close(error);
  }
}

function errorReply(request: Buffer, error: string): Buffer {
  const text = `${error}\0`;
  const reply = Buffer.alloc(HEADER_BYTES + text.length);
  reply.writeUInt32LE(XS_ERROR, 0);
  request.copy(reply, 4, 4, 12);
  reply.writeUInt32LE(text.length, 12);
  reply.write(text, HEADER_BYTES);
  return reply;
}
