import { createServer, type Server, type Socket } from 'node:net';
import type { NbdDisk } from '../disk.js';
import { NbdError } from '../errors.js';
import { SocketReader } from '../reader.js';
import { type NbdExport, type NbdSession, negotiate } from './negotiation.js';
import { NbdTransmission } from './transmission.js';

/** How long a client has to read its last answers when the server closes. */
const GRACE_MS = 2000;
/** Of silence on a TCP connection, before the system asks whether the client is there. */
const KEEP_ALIVE_MS = 60_000;

interface Connection {
  readonly socket: Socket;
  readonly reader: SocketReader;
  /** What its client has chosen; undefined until it has. */
  disk?: NbdDisk;
  ended: Promise<void>;
}

/** What a server lets its clients do. */
export interface NbdServerOptions {
  /** Clients at once; more are hung up on. Any number if undefined. */
  readonly mostClients?: number | undefined;
  /** Milliseconds for a client to choose its export; as long as it likes if undefined. */
  readonly handshakeMs?: number | undefined;
  /** False: a client that asks for no name gets nothing. True if undefined: it gets the first export. */
  readonly defaultExport?: boolean | undefined;
}

/** What else an export has. */
export interface NbdExportOptions {
  /** For people: a list of the exports shows it. */
  readonly description?: string | undefined;
}

/**
 * An NBD server (fixed newstyle, structured replies, several connections to one export). Its `listener` listens where
 * the owner makes it: a Unix socket or a TCP port. Exports come and go while it serves. `close()` ends the connections
 * after their requests in flight, and the listener.
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
  readonly #exports: Map<string, NbdExport>;
  readonly #options: NbdServerOptions;
  readonly #connections = new Set<Connection>();
  #closed: Promise<void> | undefined;

  /** Exports by name. The first is the default export. */
  constructor(exports: Readonly<Record<string, NbdDisk>> = {}, options: NbdServerOptions = {}) {
    this.#exports = new Map(Object.entries(exports).map(([name, disk]) => [name, { disk }]));
    this.#options = options;
    // A client on the network that is gone without a word is found out, and let go.
    const sockets = { highWaterMark: 256 * 1024, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS };
    this.listener = createServer(sockets, (socket) => this.#accept(socket));
    if (options.mostClients !== undefined) this.listener.maxConnections = options.mostClients;
  }

  /** From now on clients may choose it. A disk has one name only. Error: RangeError, the name is taken. */
  add(name: string, disk: NbdDisk, { description }: NbdExportOptions = {}): void {
    if (this.#exports.has(name)) throw new RangeError(`there is an export "${name}" already`);
    this.#exports.set(name, { disk, description });
  }

  /** Whether there is an export of that name. */
  has(name: string): boolean {
    return this.#exports.has(name);
  }

  /** Clients that have chosen an export and are not gone yet. */
  clientsOf(name: string): number {
    return this.#clientsOf(this.#exports.get(name)?.disk).length;
  }

  /**
   * No client can choose the export any more, and its clients are hung up on after the answers to what they have in flight.
   * Resolves when the last one is gone, and no request is at the disk; at once for a name that there is not.
   */
  async remove(name: string): Promise<void> {
    const disk = this.#exports.get(name)?.disk;
    this.#exports.delete(name);
    if (disk) await end(this.#clientsOf(disk));
  }

  #clientsOf(disk: NbdDisk | undefined): Connection[] {
    return [...this.#connections].filter((connection) => disk !== undefined && connection.disk === disk);
  }

  #accept(socket: Socket): void {
    const reader = new SocketReader(socket);
    // The end of a connection is seen by its reader.
    socket.on('error', () => undefined);
    const connection: Connection = { socket, reader, ended: Promise.resolve() };
    this.#connections.add(connection);
    // One that does not read its last answers is there still.
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    connection.ended = this.#converse(connection)
      .then(() => closed)
      .then(() => void this.#connections.delete(connection));
  }

  async #converse(connection: Connection): Promise<void> {
    const { socket, reader } = connection;
    try {
      const session = await this.#negotiate(connection);
      if (!session || !this.#isExported(session.disk)) return;
      connection.disk = session.disk;
      await new NbdTransmission(socket, reader, session).serve();
    } catch (error) {
      if (!(error instanceof NbdError)) throw error;
    } finally {
      socket.end(() => socket.destroy());
    }
  }

  async #negotiate({ socket, reader }: Connection): Promise<NbdSession | undefined> {
    const { handshakeMs, defaultExport = true } = this.#options;
    const late = handshakeMs === undefined ? undefined : setTimeout(() => socket.destroy(), handshakeMs);
    try {
      return await negotiate(socket, reader, { exports: this.#exports, hasDefault: defaultExport });
    } finally {
      clearTimeout(late);
    }
  }

  /** It may have been removed just after it was chosen. */
  #isExported(disk: NbdDisk): boolean {
    return [...this.#exports.values()].some((found) => found.disk === disk);
  }

  /** Takes no more clients, waits for what is in flight, and closes. Harmless when repeated. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const stopped = new Promise<void>((resolve) => this.listener.close(() => resolve()));
    await end([...this.#connections]);
    await stopped;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Hangs up after the answers to what is in flight. */
async function end(connections: readonly Connection[]): Promise<void> {
  for (const { reader } of connections) reader.cancel();
  // A client that does not read its last answers must not hold the server.
  const force = setTimeout(() => {
    for (const { socket } of connections) socket.destroy();
  }, GRACE_MS);
  await Promise.all(connections.map(({ ended }) => ended));
  clearTimeout(force);
}
