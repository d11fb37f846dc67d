import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { BlockdError, errorCode } from '../errors.js';
import { listenOnUnixSocket } from '../unix-socket.js';
import type { DeviceStatus } from './device-status.js';

/** A question on the control socket. Each is a line of JSON, and so is its answer; a connection may ask many. */
export type ControlRequest =
  | { readonly command: 'list' }
  /** Of all disks, or of one, which may be allowed to shrink. */
  | { readonly command: 'refresh'; readonly disk?: string | undefined; readonly allowShrink?: boolean | undefined }
  /** The answer has this disk only. The flags are for one that cannot be taken over, see TakeOverConsent. */
  | {
      readonly command: 'resume';
      readonly disk: string;
      readonly withoutJournal?: boolean | undefined;
      readonly acceptImage?: boolean | undefined;
    }
  /** What a disk may do in a second, or with `guest` all disks of its guest. */
  | {
      readonly command: 'throttle';
      readonly disk: string;
      /** As parseRateLimits takes it; `default` takes back what was said, and without it nothing is changed. */
      readonly limits?: string | undefined;
      readonly guest?: boolean | undefined;
    };

export type ControlResponse = { readonly devices: readonly DeviceStatus[] } | { readonly error: string };

export type ControlHandler = (request: ControlRequest) => Promise<ControlResponse>;

/** No question of ours is a longer line. */
const MAX_LINE = 4096;

/**
 * Answers questions about the running daemon on a Unix socket that only its owner may use. Each line gets one answer,
 * in order; a line that is no question gets an `error`, and an endless one ends its connection. A client never
 * disturbs the daemon: what goes wrong on a connection ends that connection only. Closing ends all of them.
 */
export class ControlServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(handler: ControlHandler) {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      serve(socket, handler).catch(() => socket.destroy());
    });
  }

  /** Error: ERR_SOCKET. */
  static async listen(path: string, handler: ControlHandler): Promise<ControlServer> {
    const control = new ControlServer(handler);
    const umask = process.umask(0o077);
    try {
      await listenOnUnixSocket(control.#server, path);
    } finally {
      process.umask(umask);
    }
    return control;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

async function serve(socket: Socket, handler: ControlHandler): Promise<void> {
  for await (const line of lines(socket)) {
    const response = await answer(line, handler);
    socket.write(`${JSON.stringify(response)}\n`);
  }
  socket.end();
}

async function answer(line: string, handler: ControlHandler): Promise<ControlResponse> {
  try {
    return await handler(JSON.parse(line) as ControlRequest);
  } catch (error) {
    return { error: (error as Error).message };
  }
}

async function* lines(socket: Socket, limit = MAX_LINE): AsyncGenerator<string> {
  let text = '';
  for await (const chunk of socket.setEncoding('utf8')) {
    text += chunk;
    const parts = text.split('\n');
    text = parts.pop()!;
    if (text.length > limit) throw new Error('line too long');
    yield* parts;
  }
}

/** Asks the daemon that listens on `path`. Error: ERR_SOCKET if there is no daemon, or with the daemon's own words. */
export async function askDaemon(path: string, request: ControlRequest): Promise<readonly DeviceStatus[]> {
  const socket = createConnection(path);
  try {
    await once(socket, 'connect');
    socket.write(`${JSON.stringify(request)}\n`);
    for await (const line of lines(socket, Number.POSITIVE_INFINITY)) {
      const response = JSON.parse(line) as ControlResponse;
      if ('devices' in response) return response.devices;
      throw new BlockdError('ERR_SOCKET', 'ask daemon', `the daemon answers: ${response.error}`, { path });
    }
    throw unanswered(path, 'the daemon closed the connection');
  } catch (error) {
    if (error instanceof BlockdError) throw error;
    throw unanswered(path, adviceOf(errorCode(error)), error);
  } finally {
    socket.destroy();
  }
}

function unanswered(path: string, reason: string, cause?: unknown): BlockdError {
  return new BlockdError('ERR_SOCKET', 'ask daemon', `socket ${path}: ${reason}`, { path, cause });
}

function adviceOf(code: string | undefined): string {
  if (code === 'EACCES') return 'no permission; run this as the user of the daemon';
  return `no daemon answers there (${code}); start it with systemctl start xen-blockd, or name its socket`;
}
