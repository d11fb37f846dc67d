import { connect, type Socket } from 'node:net';
import type { XenstoreTransport, XenstoreTransportListener } from '@xenpv/xen-sys';
import { XenstoreError } from './errors.js';
import { XS_MAX_PAYLOAD } from './wire.js';

/** The Unix socket of a xenstored. Messages that are sent in one turn of the event loop go out in one write. */
export class SocketTransport implements XenstoreTransport {
  readonly description: string;
  readonly maxPayload = XS_MAX_PAYLOAD;
  readonly #socket: Socket;
  #queue: Uint8Array[] = [];
  #listener: XenstoreTransportListener | undefined;
  #error: Error | undefined;
  readonly #closed: Promise<void>;

  private constructor(socket: Socket, path: string) {
    this.#socket = socket;
    this.description = path;
    socket.on('error', (error) => {
      this.#error = error;
    });
    this.#closed = new Promise((resolve) => socket.once('close', () => resolve()));
  }

  /** Connects to the socket at `path`. Rejects with the system's error (ENOENT, ECONNREFUSED, EACCES). */
  static connect(path: string, options: { signal?: AbortSignal | undefined } = {}): Promise<SocketTransport> {
    return new Promise((resolve, reject) => {
      const { signal } = options;
      if (signal?.aborted) return reject(signal.reason);
      const socket = connect({ path });
      const abort = () => {
        socket.destroy();
        reject(signal!.reason);
      };
      signal?.addEventListener('abort', abort, { once: true });
      socket.once('error', (error) => {
        signal?.removeEventListener('abort', abort);
        reject(error);
      });
      socket.once('connect', () => {
        signal?.removeEventListener('abort', abort);
        socket.removeAllListeners('error');
        resolve(new SocketTransport(socket, path));
      });
    });
  }

  start(listener: XenstoreTransportListener): void {
    if (this.#listener !== undefined) {
      const message = 'the transport was started already';
      throw new XenstoreError('ERR_INVALID_ARGUMENT', 'connect', this.description, { message });
    }
    this.#listener = listener;
    this.#socket.on('data', (chunk) => listener.data(chunk));
    void this.#closed.then(() => listener.close(this.#error));
  }

  send(message: Uint8Array): void {
    if (this.#queue.push(message) === 1) process.nextTick(flush, this);
  }

  ref(): void {
    this.#socket.ref();
  }

  unref(): void {
    this.#socket.unref();
  }

  async close(): Promise<void> {
    this.flush();
    this.#socket.destroySoon();
    await this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @internal */
  flush(): void {
    const queue = this.#queue;
    if (queue.length === 0) return;
    this.#queue = [];
    if (this.#socket.writable) this.#socket.write(queue.length === 1 ? queue[0] : Buffer.concat(queue));
  }
}

function flush(transport: SocketTransport): void {
  transport.flush();
}
