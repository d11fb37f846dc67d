import type { XenstoreTransport, XenstoreTransportListener } from '@xenpv/xen-sys';
import { XS_MAX_PAYLOAD } from '@xenpv/xenstore';
import { MessagePipe } from './message-pipe.js';

/** A worker thread's connection to the xenstored on the host's thread. */
export class PipeTransport implements XenstoreTransport {
  readonly description: string;
  readonly maxPayload = XS_MAX_PAYLOAD;
  readonly #pipe: MessagePipe;
  #listener: XenstoreTransportListener | undefined;

  constructor(memory: SharedArrayBuffer, description: string) {
    this.description = description;
    this.#pipe = new MessagePipe(memory, 0);
  }

  start(listener: XenstoreTransportListener): void {
    this.#listener = listener;
    this.#pipe.start({
      message: (chunk) => listener.data(chunk),
      close: () => this.#ended(new Error('xenstored closed the connection')),
    });
  }

  send(message: Uint8Array): void {
    this.#pipe.send(message);
  }

  ref(): void {
    this.#pipe.ref();
  }

  unref(): void {
    this.#pipe.unref();
  }

  async close(): Promise<void> {
    this.#pipe.close();
    this.#ended();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #ended(error?: Error): void {
    const listener = this.#listener;
    this.#listener = undefined;
    listener?.close(error);
  }
}

/** The host's end of a {@link PipeTransport}: carries its bytes to and from `transport`. */
export function servePipe(memory: SharedArrayBuffer, transport: XenstoreTransport): void {
  const pipe = new MessagePipe(memory, 1);
  pipe.unref();
  transport.start({ data: (chunk) => pipe.send(chunk), close: () => pipe.close() });
  pipe.start({ message: (message) => transport.send(message), close: () => void transport.close() });
}
