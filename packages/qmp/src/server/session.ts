import type { Socket } from 'node:net';
import { QmpError } from '../errors.js';
import { MessageSplitter, type Piece } from '../wire/message-splitter.js';
import { isRecord, type QmpAnswer, type QmpEvent, type QmpGreeting } from '../wire/messages.js';
import { type QmpCommand, refusalOf } from './command.js';

/** Of one message of a client. */
const MOST_CHARACTERS = 1 << 20;
/** A client that leaves so much unread is let go. */
const MOST_UNREAD = 4 << 20;

const NEGOTIATE = 'qmp_capabilities';

/** A conversation with one client. Its commands are carried out one after the other; the rest waits in its socket. */
export class QmpSession {
  /** Resolves when it is over; it never rejects. */
  readonly ended: Promise<void>;
  readonly #socket: Socket;
  readonly #commands: ReadonlyMap<string, QmpCommand>;
  readonly #ending = new AbortController();
  #negotiated = false;

  constructor(socket: Socket, greeting: QmpGreeting, commands: ReadonlyMap<string, QmpCommand>) {
    this.#socket = socket;
    this.#commands = commands;
    socket.on('close', () => this.#ending.abort());
    this.#send(greeting);
    this.ended = this.#serve().catch(() => this.close());
  }

  /** Tells the client, when it has negotiated. */
  tell(event: QmpEvent): void {
    if (this.#negotiated) this.#send(event);
  }

  close(): void {
    this.#socket.destroy();
  }

  async #serve(): Promise<void> {
    const splitter = new MessageSplitter(MOST_CHARACTERS);
    for await (const chunk of this.#socket.setEncoding('utf8')) {
      for (const piece of this.#split(splitter, chunk)) this.#send(await this.#answer(piece));
      if (this.#ending.signal.aborted) return;
    }
    this.#socket.end();
  }

  /** What is no QMP any more ends the conversation, after a word about it. */
  *#split(splitter: MessageSplitter, chunk: string): Generator<Piece, void> {
    try {
      yield* splitter.push(chunk);
    } catch (error) {
      this.#socket.end(`${JSON.stringify({ error: refusalOf(error) })}\n`);
      throw error;
    }
  }

  async #answer(piece: Piece): Promise<QmpAnswer> {
    let id: { readonly id?: unknown } = {};
    try {
      const request = parse(piece);
      if ('id' in request) id = { id: request.id };
      return { return: await this.#carryOut(request), ...id };
    } catch (error) {
      return { error: refusalOf(error), ...id };
    }
  }

  async #carryOut(request: Readonly<Record<string, unknown>>): Promise<unknown> {
    const { execute: name, arguments: args = {} } = checked(request);
    if (name === NEGOTIATE) return this.#negotiate(args);
    const command = this.#commands.get(name);
    if (!this.#negotiated) {
      const message = `Expecting capabilities negotiation with '${NEGOTIATE}'`;
      throw QmpError.refusal(message, 'CommandNotFound');
    }
    if (!command) throw QmpError.refusal(`The command ${name} has not been found`, 'CommandNotFound');
    return command.execute(args, { signal: this.#ending.signal });
  }

  #negotiate(args: unknown): object {
    if (this.#negotiated) {
      throw QmpError.refusal('Capabilities negotiation is already complete, command ignored', 'CommandNotFound');
    }
    const enable = isRecord(args) ? (args.enable ?? []) : [];
    if (Array.isArray(enable) && enable.length > 0)
      throw QmpError.refusal(`Capability '${enable[0]}' is not available`);
    this.#negotiated = true;
    return {};
  }

  #send(message: QmpAnswer | QmpEvent | QmpGreeting): void {
    if (this.#socket.destroyed || !this.#socket.writable) return;
    this.#socket.write(`${JSON.stringify(message)}\r\n`);
    if (this.#socket.writableLength > MOST_UNREAD) this.close();
  }
}

function parse(piece: Piece): Readonly<Record<string, unknown>> {
  if ('garbage' in piece) throw QmpError.refusal('JSON parse error, expecting value');
  try {
    return JSON.parse(piece.object);
  } catch (error) {
    throw QmpError.refusal(`JSON parse error, ${(error as Error).message}`);
  }
}

function checked(request: Readonly<Record<string, unknown>>): { execute: string; arguments?: unknown } {
  const strange = Object.keys(request).find((name) => !['execute', 'arguments', 'id'].includes(name));
  if (strange !== undefined) throw QmpError.refusal(`QMP input member '${strange}' is unexpected`);
  const { execute, arguments: args } = request;
  if (execute === undefined) throw QmpError.refusal("QMP input lacks member 'execute'");
  if (typeof execute !== 'string') throw QmpError.refusal("QMP input member 'execute' must be a string");
  if (args !== undefined && !isRecord(args)) throw QmpError.refusal("QMP input member 'arguments' must be an object");
  return { execute, arguments: args };
}
