import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { BlockdError, errorCode } from '../errors.js';
import type { DeviceStatus } from './device-status.js';
import { listenOnUnixSocket } from './unix-socket.js';

/** What the daemon's control socket is asked: one line of JSON each way, any number on a connection. */
export type ControlRequest = { readonly command: 'list' } | { readonly command: 'refresh' };

export type ControlResponse = { readonly devices: readonly DeviceStatus[] } | { readonly error: string };

export type ControlHandler = (request: ControlRequest) => Promise<ControlResponse>;

/** Longer lines than this come from nothing of ours. */
const MAX_LINE = 4096;

/** Answers on a Unix socket that only its owner may use. */
export class ControlServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(handler: ControlHandler) {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      // A client that went away is nobody's problem.
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

/** Asks the daemon that listens on `path`. Errors: ERR_SOCKET nobody is there, ERR_XEN what the daemon says. */
export async function askDaemon(path: string, request: ControlRequest): Promise<readonly DeviceStatus[]> {
  const socket = createConnection(path);
  try {
    await once(socket, 'connect');
    socket.write(`${JSON.stringify(request)}\n`);
    for await (const line of lines(socket, Number.POSITIVE_INFINITY)) {
      const response = JSON.parse(line) as ControlResponse;
      if ('error' in response) throw new BlockdError('ERR_SOCKET', `the daemon answers: ${response.error}`);
      return response.devices;
    }
    throw new BlockdError('ERR_SOCKET', `socket ${path}: the daemon closed the connection`);
  } catch (error) {
    if (error instanceof BlockdError) throw error;
    throw new BlockdError('ERR_SOCKET', `socket ${path}: ${adviceOf(errorCode(error))}`, { cause: error });
  } finally {
    socket.destroy();
  }
}

function adviceOf(code: string | undefined): string {
  if (code === 'EACCES') return 'no permission; run this as the user of the daemon';
  return `no daemon answers there (${code}); start it with systemctl start xen-blockd, or name its socket`;
}
