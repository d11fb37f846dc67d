import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { XenstoreTransport, XenstoreTransportListener } from '@xenpv/xen-sys';
import { XenstoreError } from './errors.js';
import { XS_MAX_PAYLOAD } from './wire.js';

const LONGEST_CONNECT_DELAY_MS = 50;

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
  static async connect(path: string, options: { signal?: AbortSignal | undefined } = {}): Promise<SocketTransport> {
    const { signal } = options;
    for (let delay = 1; ; delay = Math.min(delay * 2, LONGEST_CONNECT_DELAY_MS)) {
      try {
        return new SocketTransport(await connectSocket(path, signal), path);
      } catch (error) {
        // xenstored listens with a backlog of one: while it is busy the kernel says "try again".
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      }
      await sleep(delay);
    }
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

function connectSocket(path: string, signal: AbortSignal | undefined): Promise<Socket> {
  return new Promise((resolve, reject) => {
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
      resolve(socket);
    });
  });
}

function flush(transport: SocketTransport): void {
  transport.flush();
}
