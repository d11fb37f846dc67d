import type { XenstoreClient } from '@xenpv/xenstore';

export type XenstoreTransport = Parameters<typeof XenstoreClient.open>[0];
type XenstoreTransportListener = Parameters<XenstoreTransport['start']>[0];

/**
 * What happens to a request: xenstored answers with an error, or the connection is lost before the request or after it
 * was carried out.
 */
export type Fault = 'EIO' | 'EAGAIN' | 'ENOSPC' | 'E2BIG' | 'EINVAL' | 'lost before' | 'lost after';

/** xs_wire.h: the types of requests that faults are chosen by. */
export const XS_WATCH = 4;
export const XS_TRANSACTION_END = 7;
const XS_ERROR = 16;
const HEADER_BYTES = 16;

/** Counts the requests of all connections of a client, and lets something happen to some of them. */
export class Faults {
  /** Requests until now. */
  count = 0;
  readonly #faultAt: (request: number, type: number) => Fault | undefined;

  constructor(faultAt: (request: number, type: number) => Fault | undefined = () => undefined) {
    this.#faultAt = faultAt;
  }

  /** `fault` happens to request `n` (0 is the first), and to no other. */
  static once(n: number, fault: Fault): Faults {
    return new Faults((request) => (request === n ? fault : undefined));
  }

  /** `type` of the request, see xs_wire.h. */
  next(type: number): Fault | undefined {
    return this.#faultAt(this.count++, type);
  }
}

/** A transport to a real xenstored with faults in it. */
export class FaultyTransport implements XenstoreTransport {
  readonly description: string;
  readonly maxPayload: number;
  readonly #inner: XenstoreTransport;
  readonly #faults: Faults;
  readonly #droppedReplies = new Set<number>();
  #listener: XenstoreTransportListener | undefined;

  constructor(inner: XenstoreTransport, faults: Faults) {
    this.#inner = inner;
    this.#faults = faults;
    this.description = inner.description;
    this.maxPayload = inner.maxPayload;
  }

  start(listener: XenstoreTransportListener): void {
    this.#listener = listener;
    let rest = Buffer.alloc(0);
    const data = (chunk: Uint8Array) => {
      rest = Buffer.concat([rest, chunk]);
      while (rest.length >= HEADER_BYTES && rest.length >= HEADER_BYTES + rest.readUInt32LE(12)) {
        const message = rest.subarray(0, HEADER_BYTES + rest.readUInt32LE(12));
        rest = rest.subarray(message.length);
        if (!this.#droppedReplies.delete(message.readUInt32LE(4))) this.#listener?.data(Uint8Array.from(message));
      }
    };
    this.#inner.start({ data, close: (error) => this.#close(error) });
  }

  send(bytes: Uint8Array): void {
    const message = Buffer.from(bytes);
    const fault = this.#faults.next(message.readUInt32LE(0));
    if (fault === undefined) this.#inner.send(bytes);
    else if (fault === 'lost before') this.lose();
    else if (fault === 'lost after') this.#loseAfter(message);
    else this.#refuse(message, fault);
  }

  #loseAfter(message: Buffer): void {
    this.#droppedReplies.add(message.readUInt32LE(4));
    this.#inner.send(message);
    setImmediate(() => this.lose());
  }

  #refuse(message: Buffer, code: string): void {
    // A transaction that cannot be committed is over all the same.
    if (message.readUInt32LE(0) === XS_TRANSACTION_END) {
      this.#droppedReplies.add(message.readUInt32LE(4));
      const abort = Buffer.from(message);
      abort.write('F', HEADER_BYTES);
      this.#inner.send(abort);
    }
    setImmediate(() => this.#listener?.data(errorReply(message, code)));
  }

  /** The connection ends, as when xenstored dies. */
  lose(): void {
    void this.#inner.close();
    this.#close(new Error('xenstored is gone'));
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

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #close(error: Error | undefined): void {
    const listener = this.#listener;
    this.#listener = undefined;
    listener?.close(error);
  }
}

function errorReply(request: Buffer, code: string): Uint8Array {
  const text = `${code}\0`;
  const reply = Buffer.alloc(HEADER_BYTES + text.length);
  reply.writeUInt32LE(XS_ERROR, 0);
  request.copy(reply, 4, 4, 12);
  reply.writeUInt32LE(text.length, 12);
  reply.write(text, HEADER_BYTES);
  return Uint8Array.from(reply);
}
