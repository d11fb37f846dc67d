import type { XenstoreTransport, XenstoreTransportListener } from '@xenpv/xen-sys';
import { MessageDecoder, XS_MAX_PAYLOAD } from '@xenpv/xenstore';
import type { ServerConnection } from '../connection/connection.js';
import type { PortHost } from '../connection/connections.js';
import type { Port } from '../connection/port.js';

/** Has something done in some later turn, in an order of its own; `what` says it in words. */
export type Schedule = (what: string, run: () => void) => void;

/**
 * A client in this process: the daemon's port and the client's transport in one. Everything is delivered later, in
 * microtasks, never while sending.
 */
export class InProcessPort implements Port, XenstoreTransport {
  readonly description: string;
  readonly maxPayload = XS_MAX_PAYLOAD;
  readonly #host: PortHost;
  readonly #connection: ServerConnection;
  readonly #schedule: Schedule | undefined;
  readonly #decoder = new MessageDecoder();
  #listener: XenstoreTransportListener | undefined;
  #deliveryScheduled = false;
  #closed = false;
  #reason: Error | undefined;

  constructor(description: string, host: PortHost, schedule?: Schedule) {
    this.description = description;
    this.#schedule = schedule;
    this.#host = host;
    this.#connection = host.open(this);
  }

  start(listener: XenstoreTransportListener): void {
    this.#listener = listener;
    if (this.#closed) queueMicrotask(() => listener.close(this.#reason));
    else this.outputReady();
  }

  send(message: Uint8Array): void {
    if (this.#closed) return;
    try {
      this.#connection.receive(this.#decoder.push(message));
    } catch (error) {
      this.#end(error as Error);
      return;
    }
    if (this.#schedule === undefined) this.#host.input(this.#connection);
    else this.#schedule(`${this.description} asks xenstored`, () => this.#host.input(this.#connection));
  }

  outputReady(): void {
    const listener = this.#listener;
    if (this.#deliveryScheduled || listener === undefined) return;
    this.#deliveryScheduled = true;
    if (this.#schedule === undefined) queueMicrotask(() => this.#deliver(listener));
    else this.#schedule(`${this.description} hears from xenstored`, () => this.#deliver(listener));
  }

  #deliver(listener: XenstoreTransportListener): void {
    this.#deliveryScheduled = false;
    let message: Uint8Array | undefined;
    while ((message = this.#connection.take()) !== undefined) listener.data(message);
  }

  failed(reason: string): void {
    this.#end(new Error(reason));
  }

  #end(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reason = error;
    this.#host.closed(this.#connection);
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
