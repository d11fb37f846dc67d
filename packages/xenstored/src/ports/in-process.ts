import type { XenstoreTransport, XenstoreTransportListener } from '@xenpv/xen-sys';
import { MessageDecoder, XS_MAX_PAYLOAD } from '@xenpv/xenstore';
import type { Connection, ConnectionPort } from '../connection/connection.js';

/** What a transport asks of the daemon. */
export interface InProcessHost {
  open(port: ConnectionPort): Connection;
  /** Requests were put into the connection. */
  input(connection: Connection): void;
  close(connection: Connection): void;
}

/** A client's connection by function calls. Everything is delivered later, in microtasks, never while sending. */
export class InProcessTransport implements XenstoreTransport {
  readonly description: string;
  readonly maxPayload = XS_MAX_PAYLOAD;
  readonly #host: InProcessHost;
  readonly #connection: Connection;
  readonly #decoder = new MessageDecoder();
  #listener: XenstoreTransportListener | undefined;
  #deliveryScheduled = false;
  #closed = false;

  constructor(description: string, host: InProcessHost) {
    this.description = description;
    this.#host = host;
    this.#connection = host.open({
      outputReady: () => this.#scheduleDelivery(),
      failed: (reason) => this.#end(new Error(reason)),
    });
  }

  start(listener: XenstoreTransportListener): void {
    this.#listener = listener;
    this.#scheduleDelivery();
  }

  send(message: Uint8Array): void {
    if (this.#closed) return;
    try {
      this.#connection.receive(this.#decoder.push(message));
    } catch (error) {
      this.#end(error as Error);
      return;
    }
    this.#host.input(this.#connection);
  }

  #scheduleDelivery(): void {
    if (this.#deliveryScheduled || this.#listener === undefined) return;
    this.#deliveryScheduled = true;
    queueMicrotask(() => this.#deliver());
  }

  #deliver(): void {
    this.#deliveryScheduled = false;
    let message: Uint8Array | undefined;
    while ((message = this.#connection.take()) !== undefined) this.#listener!.data(message);
  }

  #end(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#host.close(this.#connection);
    queueMicrotask(() => this.#listener?.close(error));
  }

  ref(): void {}

  unref(): void {}

  async close(): Promise<void> {
    this.#end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end();
  }
}
