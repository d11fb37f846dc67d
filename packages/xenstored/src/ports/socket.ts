import { chmod } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { listenOnUnixSocket } from '@xenpv/xen-sys';
import { MessageDecoder } from '@xenpv/xenstore';
import type { ServerConnection } from '../connection/connection.js';
import type { PortHost } from '../connection/connections.js';
import type { Port } from '../connection/port.js';

/** Bytes that one write to a socket gathers. */
const WRITE_BYTES = 65536;

/** A listening Unix socket and the clients that came through it. */
export class SocketListener {
  readonly #server: Server;
  readonly #clients = new Set<SocketPort>();
  #closing: Promise<void> | undefined;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Listens at `path`; the errors are those of listenOnUnixSocket. */
  static async listen(path: string, host: PortHost): Promise<SocketListener> {
    const server = createServer();
    const socket = new SocketListener(server);
    server.on('connection', (stream) => socket.#accept(stream, host));
    await listenOnUnixSocket(server, path, { op: 'xenstored.listen' });
    // Whoever can write to the socket is domain 0.
    await chmod(path, 0o600);
    return socket;
  }

  #accept(stream: Socket, host: PortHost): void {
    const client = new SocketPort(stream, host, () => this.#clients.delete(client));
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

/** A client on a socket. */
class SocketPort implements Port {
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
      this.#full = !this.#stream.write(batch.length === 1 ? batch[0] : Buffer.concat(batch, bytes));
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
