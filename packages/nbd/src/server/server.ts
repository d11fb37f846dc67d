import { createServer, type Server, type Socket } from 'node:net';
import type { NbdDisk } from '../disk.js';
import { NbdError } from '../errors.js';
import { SocketReader } from '../reader.js';
import { type NbdExports, negotiate } from './negotiation.js';
import { NbdTransmission } from './transmission.js';

/** How long a client has to read its last answers when the server closes. */
const GRACE_MS = 2000;

interface Connection {
  readonly socket: Socket;
  readonly reader: SocketReader;
  readonly ended: Promise<void>;
}

/**
 * An NBD server (fixed newstyle, structured replies, several connections to one export). Its `listener` listens where
 * the owner makes it: a Unix socket or a TCP port. `close()` ends the connections after their requests in flight, and
 * the listener.
 *
 * @example
 * ```ts
 * import { once } from 'node:events';
 * import { NbdServer } from '@xenpv/nbd';
 *
 * const bytes = new Uint8Array(1 << 20);
 * const disk = {
 *   size: bytes.length,
 *   blockSize: 512,
 *   readOnly: false,
 *   read: async (offset: number, length: number) => bytes.slice(offset, offset + length),
 *   write: async (offset: number, data: Uint8Array) => bytes.set(data, offset),
 *   flush: async () => {},
 * };
 * await using server = new NbdServer({ scratch: disk });
 * await once(server.listener.listen('/tmp/nbd-example.sock'), 'listening');
 * console.log(server.listener.address()); // nbd+unix:///scratch?socket=/tmp/nbd-example.sock
 * ```
 */
export class NbdServer implements AsyncDisposable {
  /** Does not listen yet. Clients are served as soon as it does. */
  readonly listener: Server;
  readonly #exports: NbdExports;
  readonly #connections = new Set<Connection>();
  #closed: Promise<void> | undefined;

  /** Exports by name. The first is the default export. */
  constructor(exports: Readonly<Record<string, NbdDisk>>) {
    this.#exports = new Map(Object.entries(exports));
    this.listener = createServer({ highWaterMark: 256 * 1024 }, (socket) => this.#accept(socket));
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
      if (!(error instanceof NbdError)) throw error;
    } finally {
      socket.end(() => socket.destroy());
    }
  }

  /** Takes no more clients, waits for what is in flight, and closes. Harmless when repeated. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const stopped = new Promise<void>((resolve) => this.listener.close(() => resolve()));
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
