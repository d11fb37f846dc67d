import assert from 'node:assert/strict';
import type { XenstoreTransport, XenstoreTransportListener } from '@xenpv/xen-sys';
import { type ClientOptions, XenstoreClient } from '../client/client.js';
import {
  decodeStrings,
  encodeMessage,
  encodeStrings,
  MessageDecoder,
  XS_MAX_PAYLOAD,
  type XsMessage,
  XsOp,
  xsOpName,
} from '../wire/wire.js';

/** A transport whose other end is the test: it sees each message and says what comes back, byte for byte. */
export class FakeTransport implements XenstoreTransport {
  readonly description = 'fake';
  readonly maxPayload: number;
  /** What was sent and not yet taken by {@link next}. */
  readonly sent: XsMessage[] = [];
  closedByClient = false;
  #listener: XenstoreTransportListener | undefined;
  #waiting: ((message: XsMessage) => void) | undefined;

  constructor(maxPayload = XS_MAX_PAYLOAD) {
    this.maxPayload = maxPayload;
  }

  start(listener: XenstoreTransportListener): void {
    this.#listener = listener;
  }

  send(bytes: Uint8Array): void {
    const [message] = new MessageDecoder().push(Uint8Array.from(bytes));
    if (this.#waiting === undefined) this.sent.push(message);
    else this.#waiting(message);
    this.#waiting = undefined;
  }

  /** The next message that the client sends. */
  async next(): Promise<XsMessage> {
    return (
      this.sent.shift() ??
      new Promise((resolve) => {
        this.#waiting = resolve;
      })
    );
  }

  reply(to: XsMessage, ...strings: string[]): void {
    this.receive(encodeMessage(to.type, to.requestId, to.transactionId, encodeStrings(...strings)));
  }

  /** Replies with bytes that no NUL ends, as values are. */
  replyBytes(to: XsMessage, value: string): void {
    this.receive(encodeMessage(to.type, to.requestId, to.transactionId, Buffer.from(value)));
  }

  /** Says OK to the next message, which must be a WATCH; returns its token. */
  async confirmWatch(): Promise<string> {
    const message = await this.next();
    assert.equal(xsOpName(message.type), 'watch');
    this.reply(message, 'OK');
    return stringsOf(message)[1];
  }

  fail(to: XsMessage, error: string): void {
    this.receive(encodeMessage(XsOp.error, to.requestId, to.transactionId, encodeStrings(error)));
  }

  event(path: string, token: string): void {
    this.receive(encodeMessage(XsOp.watchEvent, 0, 0, encodeStrings(path, token)));
  }

  receive(bytes: Uint8Array): void {
    this.#listener!.data(bytes);
  }

  /** The connection breaks. */
  break(error?: Error): void {
    this.#listener!.close(error);
  }

  ref(): void {}

  unref(): void {}

  async close(): Promise<void> {
    this.closedByClient = true;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** A client, and the other end of its connection. */
export function fakeConnection(options?: ClientOptions): { transport: FakeTransport; client: XenstoreClient } {
  const transport = new FakeTransport();
  return { transport, client: XenstoreClient.open(transport, options) };
}

/** The strings in a message. */
export function stringsOf(message: XsMessage): string[] {
  return decodeStrings(message.payload);
}
