import { chmod, lstat, unlink } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { XenSysError } from '@xenpv/xen-sys';
import { MessageDecoder } from '@xenpv/xenstore';
import type { ServerConnection } from '../connection/connection.js';
import type { PortHost } from '../connection/connections.js';
import type { Port } from '../connection/port.js';

/** Longest path of a Unix socket on Linux in bytes. */
const MAX_SOCKET_PATH = 107;
/** Bytes that one write to a socket gathers. */
const WRITE_BYTES = 65536;

/** A listening Unix socket and the clients that came through it. */
export class XenstoreSocket {
  readonly #server: Server;
  readonly #clients = new Set<SocketClient>();
  #closing: Promise<void> | undefined;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Listens at `path`; see EmulatedXenstored.listen for the errors. */
  static async listen(path: string, host: PortHost): Promise<XenstoreSocket> {
    if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
      throw listenError('ENAMETOOLONG', path, `is longer than ${MAX_SOCKET_PATH} bytes; use a shorter path`);
    }
    await removeStale(path);
    const server = createServer();
    const socket = new XenstoreSocket(server);
    server.on('connection', (stream) => socket.#accept(stream, host));
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(systemError(error, path)));
      server.listen(path, resolve);
    });
    // Whoever can write to the socket is domain 0.
    await chmod(path, 0o600);
    return socket;
  }

  #accept(stream: Socket, host: PortHost): void {
    const client = new SocketClient(stream, host, () => this.#clients.delete(client));
    this.#clients.add(client);
  }

  /** Ends all clients and removes the socket. */
  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => {
      this.#server.close(() => resolve());
      for (const client of [...this.#clients]) client.failed('xenstored is closed');
    });
    return this.#closing;
  }
}

function listenError(code: string, path: string, problem: string, cause?: unknown): XenSysError {
  return new XenSysError(code, 'xenstored.listen', `xenstored cannot listen: ${path} ${problem}`, { path, cause });
}

function systemError(error: NodeJS.ErrnoException, path: string): XenSysError {
  const code = error.code ?? 'EIO';
  return listenError(code, path, code === 'EADDRINUSE' ? IN_USE : `gives ${code}`, error);
}

const IN_USE = 'is in use by another process; stop it or use another path';

/** Removes what a process that died left at `path`, and nothing else. */
async function removeStale(path: string): Promise<void> {
  const there = await lstat(path).catch(() => undefined);
  if (there === undefined) return;
  if (!there.isSocket()) throw listenError('EEXIST', path, 'exists and is no socket; remove it or use another path');
  if (await isServed(path)) throw listenError('EADDRINUSE', path, IN_USE);
  await unlink(path).catch(() => undefined);
}

/** Whether somebody accepts connections at `path`. Only a refusal says that nobody does. */
function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    const answer = (served: boolean): void => {
      probe.destroy();
      resolve(served);
    };
    probe.once('connect', () => answer(true));
    probe.once('error', (error: NodeJS.ErrnoException) =>
      answer(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
    );
  });
}

/** A client on a socket. */
class SocketClient implements Port {
  readonly #stream: Socket;
  readonly #host: PortHost;
  readonly #connection: ServerConnection;
  readonly #decoder = new MessageDecoder();
  readonly #gone: () => void;
  #writeScheduled = false;
  #full = false;
  #ended = false;

  constructor(stream: Socket, host: PortHost, gone: () => void) {
    this.#stream = stream;
    this.#host = host;
    this.#gone = gone;
    this.#connection = host.open(this);
    stream.on('data', (chunk: Buffer) => this.#receive(chunk));
    stream.on('drain', () => {
      this.#full = false;
      this.outputReady();
    });
    stream.on('error', () => this.#end());
    stream.on('close', () => this.#end());
  }

  #receive(chunk: Buffer): void {
    try {
      this.#connection.receive(this.#decoder.push(chunk));
    } catch {
      // Like the C daemon: a header that claims too much, and all after it, cannot be made sense of.
      this.failed('malformed message');
      return;
    }
    this.#host.input(this.#connection);
  }

  outputReady(): void {
    if (this.#writeScheduled || this.#full) return;
    this.#writeScheduled = true;
    queueMicrotask(() => this.#write());
  }

  /** Writes what waits as far as the socket takes it; the rest stays in the connection, where equal events merge. */
  #write(): void {
    this.#writeScheduled = false;
    while (!this.#full && !this.#ended) {
      const batch: Buffer[] = [];
      let bytes = 0;
      for (let message = this.#connection.take(); message !== undefined; message = this.#connection.take()) {
        batch.push(message);
        bytes += message.length;
        if (bytes >= WRITE_BYTES) break;
      }
      if (batch.length === 0) return;
      this.#full = !this.#stream.write(batch.length === 1 ? batch[0]! : Buffer.concat(batch, bytes));
    }
  }

  failed(_reason: string): void {
    this.#end();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#host.closed(this.#connection);
    this.#stream.destroy();
    this.#gone();
  }
}
