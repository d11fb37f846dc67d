import { createConnection } from 'node:net';
import type { Duplex } from 'node:stream';
import { QmpError } from '../errors.js';
import { MessageSplitter, type Piece } from '../wire/message-splitter.js';
import { isRecord, type QmpEvent, type QmpGreeting } from '../wire/messages.js';

/** How a client talks to its server. */
export interface QmpClientOptions {
  /** Milliseconds for each answer; 10000 by default. A server that is late is given up. */
  readonly answerMs?: number | undefined;
  /** Characters of one message of the server; 64 MiB by default. */
  readonly mostCharacters?: number | undefined;
  /** Takes each event as it comes; without it they are dropped. What it throws ends the conversation. */
  readonly onEvent?: ((event: QmpEvent) => void) | undefined;
  /** Ends the conversation. */
  readonly signal?: AbortSignal | undefined;
}

/** How a command is given. */
export interface QmpExecuteOptions {
  /** Ends the wait for the answer. The deadline for the answer holds all the same. */
  readonly signal?: AbortSignal | undefined;
}

interface Waiter {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

const ANSWER_MS = 10_000;
/** Of the time for an answer: what a server has besides, while this process reads what has come. */
const SECOND_LOOK = 0.1;
const MOST_CHARACTERS = 64 << 20;

/** The greeting has no number, and is waited for like an answer. */
const GREETING = 0;

/**
 * A conversation with a QMP server. Commands may be given without waiting; each answer finds its own.
 *
 * @example
 * ```ts
 * import { once } from 'node:events';
 * import { QmpClient, QmpServer } from '@xenpv/qmp';
 *
 * const server = new QmpServer({ version: { qemu: { major: 1, minor: 0, micro: 0 }, package: '' }, events: {}, commands: {} });
 * await once(server.listener.listen('/tmp/qmp-example.sock'), 'listening');
 * const client = await QmpClient.connect('/tmp/qmp-example.sock');
 * console.log(await client.execute('query-commands', {}, { signal: AbortSignal.timeout(5000) }));
 * client.close();
 * await server.close();
 * ```
 */
export class QmpClient implements AsyncDisposable {
  /** Resolves when the server has closed the connection, or `close` was called; it never rejects. */
  readonly closed: Promise<void>;
  readonly #stream: Duplex;
  readonly #answerMs: number;
  readonly #onEvent: (event: QmpEvent) => void;
  readonly #splitter: MessageSplitter;
  readonly #waiters = new Map<unknown, Waiter>();
  #last = GREETING;
  #greeting: QmpGreeting | undefined;
  #failure: Error | undefined;

  private constructor(stream: Duplex, options: QmpClientOptions) {
    const { answerMs = ANSWER_MS, mostCharacters = MOST_CHARACTERS, onEvent = () => {}, signal } = options;
    this.#stream = stream;
    this.#answerMs = answerMs;
    this.#onEvent = onEvent;
    this.#splitter = new MessageSplitter(mostCharacters);
    const abort = () => stream.destroy(signal?.reason);
    signal?.addEventListener('abort', abort);
    this.closed = new Promise((resolve) => {
      stream.on('close', () => {
        signal?.removeEventListener('abort', abort);
        this.#fail(ended());
        resolve();
      });
    });
    stream.on('error', (error) => this.#fail(isHangUp(error) ? ended(error) : error));
    stream.on('end', () => stream.destroy());
    stream.setEncoding('utf8').on('data', (text: string) => this.#receive(text));
  }

  /**
   * Talks to the server of a Unix socket, and negotiates. Errors: QmpError ERR_TIMEOUT, ERR_PROTOCOL, ERR_ENDED; the
   * system's, such as ENOENT, ECONNREFUSED, EACCES; the signal's reason.
   */
  static async connect(path: string, options: QmpClientOptions = {}): Promise<QmpClient> {
    options.signal?.throwIfAborted();
    return QmpClient.over(createConnection({ path }), options);
  }

  /** The same over any stream, which is the client's from now on. */
  static async over(stream: Duplex, options: QmpClientOptions = {}): Promise<QmpClient> {
    const client = new QmpClient(stream, options);
    try {
      client.#greeting = greetingOf(await client.#answer(GREETING));
      await client.execute('qmp_capabilities');
      return client;
    } catch (error) {
      client.close();
      options.signal?.throwIfAborted();
      throw error;
    }
  }

  /** What the server said first. */
  get greeting(): QmpGreeting {
    if (!this.#greeting) throw new QmpError('ERR_PROTOCOL', 'connect', 'the server has not greeted');
    return this.#greeting;
  }

  /**
   * Resolves with what a command returns. Aborting the signal ends the wait alone: the server may carry the command out
   * all the same, its answer is dropped, and the conversation goes on. Errors: QmpError ERR_COMMAND with the server's
   * class and words, ERR_TIMEOUT, ERR_PROTOCOL, ERR_ENDED; a system's; the signal's reason.
   */
  async execute(command: string, args?: object, { signal }: QmpExecuteOptions = {}): Promise<unknown> {
    signal?.throwIfAborted();
    if (this.#failure) throw this.#failure;
    const id = ++this.#last;
    this.#stream.write(`${JSON.stringify({ execute: command, ...(args && { arguments: args }), id })}\n`);
    return untilAborted(this.#answer(id), signal);
  }

  /** Ends the conversation. Harmless when repeated. */
  close(): void {
    this.#stream.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.closed;
  }

  /** The connection does not keep the process alive. */
  unref(): void {
    (this.#stream as { unref?: () => void }).unref?.();
  }

  #answer(id: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      // A process that stood still itself comes to its timers before its sockets, where the answer may be.
      let late = setTimeout(() => {
        late = setTimeout(() => this.#giveUp(), SECOND_LOOK * this.#answerMs);
      }, this.#answerMs);
      const ended =
        <T>(then: (value: T) => void) =>
        (value: T) => {
          clearTimeout(late);
          then(value);
        };
      this.#waiters.set(id, { resolve: ended(resolve), reject: ended(reject) });
    });
  }

  #receive(text: string): void {
    if (this.#failure) return;
    try {
      for (const piece of this.#splitter.push(text)) this.#take(piece);
    } catch (error) {
      this.#fail(error as Error);
      this.#stream.destroy();
    }
  }

  #take(piece: Piece): void {
    const message = parse(piece);
    const { id, error } = message;
    if (typeof message.event === 'string') this.#onEvent(message as unknown as QmpEvent);
    else if ('QMP' in message) this.#settle(GREETING, (waiter) => waiter.resolve(message));
    else if ('return' in message) this.#settle(id, (waiter) => waiter.resolve(message.return));
    else if (!isRecord(error))
      throw new QmpError('ERR_PROTOCOL', 'receive', 'the server says what is no answer and no event');
    // One without a number is about the conversation as a whole.
    else if (id === undefined) throw refusal(error);
    else this.#settle(id, (waiter) => waiter.reject(refusal(error)));
  }

  #settle(id: unknown, how: (waiter: Waiter) => void): void {
    const waiter = this.#waiters.get(id);
    if (!waiter) throw new QmpError('ERR_PROTOCOL', 'receive', 'the server answers what was not asked');
    this.#waiters.delete(id);
    how(waiter);
  }

  #giveUp(): void {
    const seconds = this.#answerMs / 1000;
    this.#fail(new QmpError('ERR_TIMEOUT', 'receive', `the server does not answer within ${seconds} seconds`));
    this.#stream.destroy();
  }

  /** All that waits ends with this error, and what is asked later too. */
  #fail(error: Error): void {
    this.#failure ??= error;
    const waiters = [...this.#waiters.values()];
    this.#waiters.clear();
    for (const waiter of waiters) waiter.reject(this.#failure);
  }
}

/** The same, or the signal's reason. What it would have been is dropped then, also an error. */
function untilAborted<T>(answer: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return answer;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    answer.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

/** How the system tells of a server that went without having read all: to who reads, and to who writes. */
function isHangUp(error: NodeJS.ErrnoException): boolean {
  return error.code === 'ECONNRESET' || error.code === 'EPIPE';
}

function ended(cause?: Error): QmpError {
  return new QmpError('ERR_ENDED', 'receive', 'the server has closed the connection', { cause });
}

function parse(piece: Piece): Readonly<Record<string, unknown>> {
  if ('garbage' in piece) throw new QmpError('ERR_PROTOCOL', 'receive', 'the server does not speak QMP');
  try {
    return JSON.parse(piece.object);
  } catch (cause) {
    throw new QmpError('ERR_PROTOCOL', 'receive', 'the server does not speak QMP: its JSON is wrong', { cause });
  }
}

function greetingOf(message: unknown): QmpGreeting {
  const { QMP } = message as { QMP: unknown };
  if (!isRecord(QMP) || !isRecord(QMP.version))
    throw new QmpError('ERR_PROTOCOL', 'connect', 'the server greets without a version');
  return message as QmpGreeting;
}

function refusal(error: Readonly<Record<string, unknown>>): QmpError {
  const { class: errorClass, desc } = error;
  const message = typeof desc === 'string' ? desc : 'the server refuses';
  return QmpError.refusal(message, typeof errorClass === 'string' ? errorClass : 'GenericError');
}
