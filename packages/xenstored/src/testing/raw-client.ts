import { once } from 'node:events';
import { connect } from 'node:net';
import type { XenstoreTransport } from '@xenpv/xen-sys';
import { encodeMessage, MessageDecoder, XS_MAX_PAYLOAD, type XsMessage, XsOp } from '@xenpv/xenstore';

/** An answer as it came: its type, or the error's name. */
export interface RawReply {
  readonly type: number;
  readonly text: string;
  /** Events that came before it and were not taken yet. */
  readonly eventsBefore: number;
}

const CLOSED: RawReply = { type: -1, text: 'closed', eventsBefore: 0 };

/** A client that sends what it is told to, right or wrong, and shows what comes back. For tests. */
export class RawClient {
  /** Events that came and were not looked at yet, as `path token`. */
  readonly events: string[] = [];
  closed = false;
  readonly #send: (bytes: Uint8Array) => void;
  readonly #close: () => void;
  readonly #decoder = new MessageDecoder(1 << 24);
  readonly #waiting = new Map<number, (reply: RawReply) => void>();
  readonly #eventWaiters: (() => void)[] = [];
  #nextId = 1;

  private constructor(send: (bytes: Uint8Array) => void, close: () => void) {
    this.#send = send;
    this.#close = close;
  }

  /** On a Unix socket. */
  static onSocket(path: string): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const stream = connect(path);
      const client = new RawClient(
        (bytes) => stream.write(bytes),
        () => stream.destroy(),
      );
      stream.on('data', (chunk: Buffer) => client.#receive(chunk));
      stream.once('connect', () => resolve(client));
      stream.on('error', (error) => {
        reject(error);
        client.#ended();
      });
      stream.on('close', () => client.#ended());
    });
  }

  /** On a transport. */
  static onTransport(transport: XenstoreTransport): RawClient {
    const client = new RawClient(
      (bytes) => transport.send(bytes),
      () => void transport.close(),
    );
    transport.start({ data: (chunk) => client.#receive(chunk), close: () => client.#ended() });
    return client;
  }

  #receive(chunk: Uint8Array): void {
    for (const message of this.#decoder.push(chunk)) this.#take(message);
  }

  #take(message: XsMessage): void {
    const text = Buffer.from(message.payload).toString('latin1');
    if (message.type === XsOp.watchEvent) {
      this.events.push(text.slice(0, -1).replace('\0', ' '));
      for (const wake of this.#eventWaiters.splice(0)) wake();
      return;
    }
    const resolve = this.#waiting.get(message.requestId);
    this.#waiting.delete(message.requestId);
    resolve?.({ type: message.type, text, eventsBefore: this.events.length });
  }

  #ended(): void {
    this.closed = true;
    for (const resolve of this.#waiting.values()) resolve(CLOSED);
    this.#waiting.clear();
    for (const wake of this.#eventWaiters.splice(0)) wake();
  }

  /** Sends bytes that need not be a message. */
  sendRaw(bytes: Uint8Array): void {
    this.#send(bytes);
  }

  /** Sends a request and waits for the answer. A string is sent as latin1, without anything added. */
  request(type: number, payload: string | Uint8Array, transaction = 0): Promise<RawReply> {
    if (this.closed) return Promise.resolve(CLOSED);
    const requestId = this.#nextId++;
    const bytes = typeof payload === 'string' ? Buffer.from(payload, 'latin1') : payload;
    return new Promise((resolve) => {
      this.#waiting.set(requestId, resolve);
      this.#send(encodeMessage(type, requestId, transaction, bytes));
    });
  }

  /** As {@link request}, but the answer as text: `!ENOENT` for an error. */
  async ask(type: number, payload: string | Uint8Array, transaction = 0): Promise<string> {
    return answerText(type, await this.request(type, payload, transaction));
  }

  /** The events that have been sent so far, without the ones that were returned before. */
  async takeEvents(): Promise<string[]> {
    await this.request(XsOp.getDomainPath, '0\0');
    return this.events.splice(0);
  }

  /** Waits until the server closes the connection. */
  async untilClosed(): Promise<void> {
    while (!this.closed) await new Promise<void>((resolve) => this.#eventWaiters.push(resolve));
  }

  close(): void {
    this.#close();
    this.#ended();
  }
}

/** The answer to a request of `type` as text: `!ENOENT` for an error. */
export function answerText(type: number, { type: got, text }: RawReply): string {
  if (got === XsOp.error) return `!${text.slice(0, -1)}`;
  return got === type ? text : `?${got} ${text}`;
}

/** A transport over a Unix socket, for the conformance suite. */
export async function socketTransport(path: string): Promise<XenstoreTransport> {
  const stream = connect(path);
  await once(stream, 'connect');
  const close = async (): Promise<void> => {
    stream.destroy();
  };
  return {
    description: path,
    maxPayload: XS_MAX_PAYLOAD,
    start(listener) {
      stream.on('data', (chunk) => listener.data(chunk));
      stream.on('error', (error) => stream.destroy(error));
      stream.on('close', () => listener.close());
    },
    send: (message) => void stream.write(message),
    ref: () => void stream.ref(),
    unref: () => void stream.unref(),
    close,
    [Symbol.asyncDispose]: close,
  };
}
