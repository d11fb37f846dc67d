import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { NbdAddress } from '@xenpv/blockdev';
import type { NbdTarget } from '../nbd-target.js';
import { refusal } from '../refusal.js';
import type { CopyTarget } from './target.js';

const SOCKET = 'target-nbd';

/**
 * An NBD server of somebody else. A helper has no network and no files but its own: its connection is passed on here, as it
 * is, to the one server that the configuration allows.
 */
export class ServerTarget implements CopyTarget {
  readonly socket: string;
  readonly exportName: string;
  readonly #listener: Server;
  readonly #sockets = new Set<Socket>();
  readonly lost: Promise<string>;
  #lose = (_: string) => {};

  private constructor(socket: string, exportName: string, address: NbdAddress) {
    this.socket = socket;
    this.exportName = exportName;
    this.lost = new Promise((resolve) => {
      this.#lose = resolve;
    });
    this.#listener = createServer((client) => this.#passOn(client, address));
  }

  /** Errors: ERR_IMAGE; of the socket. */
  static async open(
    { address, exportName }: NbdTarget,
    { target, folder }: { target: string; folder: string },
  ): Promise<ServerTarget> {
    if (typeof address !== 'string' && address.tls)
      throw refusal(target, 'a copy has no TLS yet: expected nbd: or nbd+unix:');
    const made = new ServerTarget(join(folder, SOCKET), exportName, address);
    rmSync(made.socket, { force: true });
    made.#listener.listen(made.socket);
    await once(made.#listener, 'listening');
    return made;
  }

  async complete(): Promise<void> {}

  async close(): Promise<void> {
    this.#listener.close();
    for (const socket of this.#sockets) socket.destroy();
    rmSync(this.socket, { force: true });
  }

  #passOn(client: Socket, address: NbdAddress): void {
    const server =
      typeof address === 'string' ? createConnection(address) : createConnection(address.port, address.host);
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(from);
      from.on('error', ({ message }) => from === server && this.#lose(message));
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
        if (from === server) this.#lose('the server has closed the connection');
      });
      from.pipe(to);
    }
  }
}
