import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { XenSysError } from './errors.js';
import type { XenstoreTransport, XenstoreTransportListener } from './xenstore-transport.js';

/** XENSTORE_PAYLOAD_MAX of io/xs_wire.h. */
const MAX_PAYLOAD = 4096;

/** xenstored's Unix socket. */
export class XenstoreSocket implements XenstoreTransport {
  readonly maxPayload = MAX_PAYLOAD;
  readonly #socket: Socket;
  #error: Error | undefined;

  private constructor(
    readonly description: string,
    socket: Socket,
  ) {
    this.#socket = socket;
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#error = socketError(error, description);
    });
  }

  /** Errors: the errno of connecting (ENOENT, ECONNREFUSED, EACCES, ...), or the signal's reason. */
  static async connect(path: string, signal?: AbortSignal): Promise<XenstoreSocket> {
    signal?.throwIfAborted();
    const socket = connect({ path });
    try {
      await once(socket, 'connect', { signal: signal as AbortSignal });
    } catch (error) {
      socket.destroy();
      signal?.throwIfAborted();
      throw socketError(error as NodeJS.ErrnoException, path);
    }
    return new XenstoreSocket(path, socket);
  }

  start(listener: XenstoreTransportListener): void {
    if (this.#socket.closed) {
      queueMicrotask(() => listener.close(this.#error));
      return;
    }
    this.#socket.on('data', (chunk: Buffer) => listener.data(chunk));
    this.#socket.once('close', () => listener.close(this.#error));
  }

  send(message: Uint8Array): void {
    if (this.#socket.writable) this.#socket.write(message);
  }

  ref(): void {
    this.#socket.ref();
  }

  unref(): void {
    this.#socket.unref();
  }

  async close(): Promise<void> {
    if (this.#socket.closed) return;
    const closed = once(this.#socket, 'close');
    this.#socket.destroySoon();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function socketError(error: NodeJS.ErrnoException, path: string): XenSysError {
  const code = error.code ?? 'EIO';
  const options = error.errno === undefined ? { path, cause: error } : { path, cause: error, errno: -error.errno };
  return new XenSysError(code, 'xenstore.connect', `${path}: ${code}`, options);
}
