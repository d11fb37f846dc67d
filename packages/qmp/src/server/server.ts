import { createServer, type Server, type Socket } from 'node:net';
import { introspect } from '../schema/introspection.js';
import type { QmpMembers } from '../schema/types.js';
import type { QmpGreeting, QmpVersion } from '../wire/messages.js';
import { type QmpCommand, qmpCommand } from './command.js';
import { QmpSession } from './session.js';

/** What a server says and does. */
export interface QmpServerOptions {
  /** By name. Those of the protocol itself are the server's own: qmp_capabilities, query-version and the like. */
  readonly commands: Readonly<Record<string, QmpCommand>>;
  /** What clients may be told of, with the members of its data. */
  readonly events?: Readonly<Record<string, QmpMembers>> | undefined;
  /** As `query-version` tells it. Clients decide by it what they may ask of a QEMU. */
  readonly version: QmpVersion;
  /** Clients at a time; 64 by default. One more is told so and let go. */
  readonly clients?: number | undefined;
}

const CLIENTS = 64;
const VERSION_MEMBERS = { object: { major: 'int', minor: 'int', micro: 'int' } } as const;

/**
 * Commands of your own, to be had by QMP. A client never disturbs the server nor another client: what goes wrong in a
 * conversation ends that one only.
 */
export class QmpServer implements AsyncDisposable {
  /** Where clients come in. It does not listen yet: its owner calls `listen`, with a path or an address. */
  readonly listener: Server;
  readonly #sessions = new Set<QmpSession>();
  readonly #commands: ReadonlyMap<string, QmpCommand>;
  readonly #greeting: QmpGreeting;
  readonly #most: number;

  constructor({ commands, events = {}, version, clients = CLIENTS }: QmpServerOptions) {
    this.#greeting = { QMP: { version, capabilities: [] } };
    this.#most = clients;
    const all = new Map<string, QmpCommand>();
    for (const [name, command] of Object.entries({ ...ownCommands(all, events, version), ...commands })) {
      all.set(name, command);
    }
    this.#commands = all;
    this.listener = createServer((socket) => this.#welcome(socket));
  }

  /** Tells all clients that have negotiated. */
  announce(event: string, data?: Readonly<Record<string, unknown>>): void {
    const now = Date.now();
    const timestamp = { seconds: Math.floor(now / 1000), microseconds: (now % 1000) * 1000 };
    for (const session of this.#sessions) session.tell({ event, ...(data && { data }), timestamp });
  }

  /** Ends all conversations. Harmless when repeated. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.listener.close(() => resolve()));
    for (const session of this.#sessions) session.close();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #welcome(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    if (this.#sessions.size >= this.#most) {
      const desc = `there are ${this.#most} clients already; try again when one has gone`;
      socket.end(`${JSON.stringify({ error: { class: 'GenericError', desc } })}\r\n`);
      return;
    }
    const session = new QmpSession(socket, this.#greeting, this.#commands);
    this.#sessions.add(session);
    void session.ended.then(() => this.#sessions.delete(session));
  }
}

function ownCommands(
  all: ReadonlyMap<string, QmpCommand>,
  events: Readonly<Record<string, QmpMembers>>,
  version: QmpVersion,
): Record<string, QmpCommand> {
  const named = { array: { object: { name: 'str' } } } as const;
  return {
    'query-version': qmpCommand({
      members: {},
      returns: { object: { qemu: VERSION_MEMBERS, package: 'str' } },
      run: () => version,
    }),
    'query-commands': qmpCommand({
      members: {},
      returns: named,
      run: () => ['qmp_capabilities', ...all.keys()].map((name) => ({ name })),
    }),
    'query-qmp-schema': qmpCommand({
      members: {},
      returns: { array: { object: { name: 'str', 'meta-type': 'str' } } },
      run: () => introspect(all, events),
    }),
  };
}
