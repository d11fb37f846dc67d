import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrnoName, XenSysError } from '../errors.js';
import { XENSTORE_PAYLOAD_MAX, type XenstoreTransport, type XenstoreTransportListener } from '../xenstore-transport.js';

const LONGEST_RETRY_MS = 50;
/** A daemon that has not read what was sent by then is taken for one that does not read any more. */
const FLUSH_MS = 1000;
const READ_BYTES = 64 * 1024;

const ADVICE: Record<string, string | undefined> = {
  ECONNREFUSED: ', xenstored does not run (on Debian: package xen-utils-common, systemctl start xen)',
  EACCES: ', no permission: run as root, or give this user the socket',
};

/** xenstored's Unix socket. Messages that are sent in one turn of the event loop go out in one write. */
export class XenstoreSocket implements XenstoreTransport {
  readonly maxPayload = XENSTORE_PAYLOAD_MAX;
  readonly #socket: Socket;
  readonly #inlet: Inlet;
  #queue: Uint8Array[] = [];
  #error: Error | undefined;

  private constructor(
    readonly description: string,
    { socket, inlet }: OpenedSocket,
  ) {
    this.#socket = socket;
    this.#inlet = inlet;
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#error = socketError(error, description);
    });
  }

  /** Errors: the errno of connecting (ENOENT, ECONNREFUSED, EACCES, ...), or the signal's reason. */
  static async connect(path: string, signal?: AbortSignal): Promise<XenstoreSocket> {
    for (let delay = 1; ; delay = Math.min(delay * 2, LONGEST_RETRY_MS)) {
      try {
        return new XenstoreSocket(path, await openSocket(path, signal));
      } catch (error) {
        signal?.throwIfAborted();
        // xenstored listens with a backlog of one: while it is busy, the kernel says "try again".
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw socketError(error as NodeJS.ErrnoException, path);
      }
      await sleep(delay, undefined, { signal }).catch(() => signal?.throwIfAborted());
    }
  }

  start(listener: XenstoreTransportListener): void {
    if (this.#socket.closed) {
      queueMicrotask(() => listener.close(this.#error));
      return;
    }
    this.#inlet.open((chunk) => listener.data(chunk));
    this.#socket.once('close', () => listener.close(this.#error));
  }

  send(message: Uint8Array): void {
    if (this.#queue.push(message) === 1) process.nextTick(flush, this);
  }

  /** Writes what is queued. */
  flush(): void {
    const queue = this.#queue;
    this.#queue = [];
    if (queue.length === 0 || !this.#socket.writable) return;
    this.#socket.write(queue.length === 1 ? queue[0] : Buffer.concat(queue));
  }

  ref(): void {
    this.#socket.ref();
  }

  unref(): void {
    this.#socket.unref();
  }

  /** What was sent goes first, unless the daemon takes longer than a moment to read it. */
  async close(): Promise<void> {
    if (this.#socket.closed) return;
    const closed = once(this.#socket, 'close');
    this.flush();
    this.#socket.destroySoon();
    const late = setTimeout(() => this.#socket.destroy(), FLUSH_MS);
    await closed;
    clearTimeout(late);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

interface OpenedSocket {
  readonly socket: Socket;
  readonly inlet: Inlet;
}

/** Where a socket's bytes go: they wait until there is a receiver. */
class Inlet {
  #waiting: Uint8Array[] = [];
  #receive = (chunk: Uint8Array): void => {
    this.#waiting.push(chunk);
  };

  open(receive: (chunk: Uint8Array) => void): void {
    this.#receive = receive;
    for (const chunk of this.#waiting.splice(0)) receive(chunk);
  }

  /** All reads use the same buffer, so that what is kept must be a copy. */
  take(bytes: Uint8Array): void {
    this.#receive(Buffer.from(bytes));
  }
}

async function openSocket(path: string, signal: AbortSignal | undefined): Promise<OpenedSocket> {
  signal?.throwIfAborted();
  const inlet = new Inlet();
  // Without `onread` Node allocates 64 KiB for each read, most of the cost of a short reply.
  const socket = connect({
    path,
    onread: {
      buffer: Buffer.allocUnsafeSlow(READ_BYTES),
      callback: (length, buffer) => {
        inlet.take(buffer.subarray(0, length));
        return true;
      },
    },
  });
  try {
    await once(socket, 'connect', { signal: signal as AbortSignal });
  } catch (error) {
    socket.destroy();
    throw error;
  }
  return { socket, inlet };
}

function flush(socket: XenstoreSocket): void {
  socket.flush();
}

function socketError(error: NodeJS.ErrnoException, path: string): XenSysError {
  const code = (error.code ?? 'EIO') as ErrnoName;
  const options = { path, cause: error, errno: error.errno && -error.errno };
  return new XenSysError(code, 'xenstore.connect', `${path}: ${code}${ADVICE[code] ?? ''}`, options);
}
