import { chmod } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { listenOnUnixSocket } from '@xenpv/xen-sys';
import type { DomainConfig, EmulatedDomain } from '../domain.js';
import { ToolstackError } from '../errors.js';
import { onLines } from '../lines.js';
import type { DomainUsage } from '../machine/machine.js';
import type { Toolstack } from '../toolstack/toolstack.js';
import type { ControlAnswer, ControlCommands, ControlRequest } from './commands.js';

/** What of a host is asked for. */
export interface ControlledHost {
  /** Attaches and detaches their disks. */
  readonly toolstack: Toolstack;
  /** All but domain 0, in the order in which they were made. */
  readonly domains: readonly EmulatedDomain[];
  /** Makes a domain that runs. */
  createDomain(config: DomainConfig): Promise<EmulatedDomain>;
  /** Ends a domain and all that it holds. Harmless when repeated. */
  destroyDomain(domid: number): Promise<void>;
  /** What a domain holds now. */
  usage(domid: number): DomainUsage;
}

/** The socket on which a host in a folder does what other processes ask for. */
export class ControlServer {
  readonly #server: Server;
  readonly #clients = new Set<ControlClient>();

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Errors: those of listenOnUnixSocket. */
  static async listen(path: string, host: ControlledHost): Promise<ControlServer> {
    const server = createServer();
    const control = new ControlServer(server);
    server.on('connection', (socket) => {
      const client = new ControlClient(socket, host, () => control.#clients.delete(client));
      control.#clients.add(client);
    });
    await listenOnUnixSocket(server, path, { op: 'emulator.control' });
    await chmod(path, 0o600);
    return control;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const client of this.#clients) client.close();
    await closed;
  }
}

type Handlers = {
  [C in keyof ControlCommands]: (
    ...args: Parameters<ControlCommands[C]>
  ) => Promise<ReturnType<ControlCommands[C]>> | ReturnType<ControlCommands[C]>;
};

/** One program that asks. */
class ControlClient {
  readonly #socket: Socket;
  readonly #host: ControlledHost;
  readonly #transient = new Set<number>();

  constructor(socket: Socket, host: ControlledHost, gone: () => void) {
    this.#socket = socket;
    this.#host = host;
    onLines(socket, (line) => void this.#answer(line));
    socket.on('error', () => {});
    socket.on('close', () => {
      gone();
      for (const domid of this.#transient) host.destroyDomain(domid).catch(() => undefined);
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  async #answer(line: string): Promise<void> {
    const answer = await this.#carryOut(line);
    if (answer === undefined) this.#socket.destroy();
    else if (!this.#socket.destroyed) this.#socket.write(`${JSON.stringify(answer)}\n`);
  }

  /** The answer, or undefined for a line that is none of the protocol. */
  async #carryOut(line: string): Promise<ControlAnswer | undefined> {
    const request = requestOf(line);
    if (request === undefined) return undefined;
    const { id, command } = request;
    try {
      if (!Object.hasOwn(this.#handlers, command)) {
        throw new ToolstackError('ERR_COMMAND', 'control', `there is no command ${command}`);
      }
      const handler = this.#handlers[command] as (...args: readonly unknown[]) => unknown;
      return { id, result: await handler(...request.arguments) };
    } catch (error) {
      const { code = 'ERR_FAILED', op = command, message } = error as Partial<ToolstackError> & Error;
      return { id, error: { code, op, message } };
    }
  }

  readonly #handlers: Handlers = {
    createDomain: async ({ transient, ...config }) => {
      const { domid } = await this.#host.createDomain(config);
      if (transient === true) this.#transient.add(domid);
      // The one who asked may be gone by now.
      if (transient === true && this.#socket.destroyed) await this.#host.destroyDomain(domid);
      return { domid };
    },
    destroyDomain: async (domid) => {
      this.#transient.delete(domid);
      await this.#host.destroyDomain(domid);
      return null;
    },
    domains: () => {
      const all = [{ domid: 0, name: 'Domain-0', shutdownReason: undefined }, ...this.#host.domains];
      return all.map(({ domid, name, shutdownReason }) => {
        return { domid, name, usage: this.#host.usage(domid), shutdownReason };
      });
    },
    shutdown: (domid, reason) => {
      const domain = this.#host.domains.find((one) => one.domid === domid);
      if (domain === undefined) throw new ToolstackError('ERR_NO_DOMAIN', 'shutdown', `there is no domain ${domid}`);
      domain.shutdown(reason);
      return null;
    },
    attachDisk: (domid, disk) => this.#host.toolstack.attachDisk(domid, disk),
    detachDisk: async (domid, vdev, options) => {
      await this.#host.toolstack.detachDisk(domid, vdev, options);
      return null;
    },
  };
}

function requestOf(line: string): ControlRequest | undefined {
  try {
    const request = JSON.parse(line) as Partial<ControlRequest> | null;
    if (typeof request?.id !== 'number' || typeof request.command !== 'string') return undefined;
    return Array.isArray(request.arguments) ? (request as ControlRequest) : undefined;
  } catch {
    return undefined;
  }
}
