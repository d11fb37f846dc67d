import { createServer, type Server, type Socket } from 'node:net';
import type { NbdDisk } from './nbd-disk.js';
import { type NbdExports, negotiate } from './nbd-negotiation.js';
import { NbdTransmission } from './nbd-transmission.js';
import { ConnectionEnded, SocketReader } from './socket-reader.js';
import { listenOnUnixSocket } from './unix-socket.js';

/** How long a client has to read its last answers when the server closes. */
const GRACE_MS = 2000;

interface Connection {
  readonly socket: Socket;
  readonly reader: SocketReader;
  readonly ended: Promise<void>;
}

/**
 * An NBD server on a Unix socket (fixed newstyle, structured replies, several connections to one export).
 * `close()` stops accepting, ends the connections after what they have under way, and removes the socket.
 */
export class NbdServer implements AsyncDisposable {
  readonly path: string;
  readonly #server: Server;
  readonly #exports: NbdExports;
  readonly #connections = new Set<Connection>();
  #closed: Promise<void> | undefined;

  private constructor(path: string, exports: NbdExports) {
    this.path = path;
    this.#exports = exports;
    this.#server = createServer({ highWaterMark: 256 * 1024 }, (socket) => this.#accept(socket));
  }

  /** Errors: ERR_SOCKET, see {@link listenOnUnixSocket}. */
  static async listen(path: string, exports: Readonly<Record<string, NbdDisk>>): Promise<NbdServer> {
    const server = new NbdServer(path, new Map(Object.entries(exports)));
    await listenOnUnixSocket(server.#server, path);
    return server;
  }

  #accept(socket: Socket): void {
    const reader = new SocketReader(socket);
    // The end of a connection is seen by its reader.
    socket.on('error', () => undefined);
    const connection: Connection = { socket, reader, ended: this.#converse(socket, reader) };
    this.#connections.add(connection);
    void connection.ended.then(() => this.#connections.delete(connection));
  }

  async #converse(socket: Socket, reader: SocketReader): Promise<void> {
    try {
      const session = await negotiate(socket, reader, this.#exports);
      if (session) await new NbdTransmission(socket, reader, session).serve();
    } catch (error) {
      if (!(error instanceof ConnectionEnded)) throw error;
    } finally {
      socket.end(() => socket.destroy());
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const stopped = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const connections = [...this.#connections];
    for (const { reader } of connections) reader.cancel();
    // A client that does not read its last answers must not hold the server.
    const force = setTimeout(() => {
      for (const { socket } of connections) socket.destroy();
    }, GRACE_MS);
    await Promise.all(connections.map(({ ended }) => ended));
    await stopped;
    clearTimeout(force);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
