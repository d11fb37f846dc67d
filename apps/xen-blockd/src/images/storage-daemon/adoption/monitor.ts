import { connect, type Socket } from 'node:net';

/** No answer that is asked for here is longer. */
const MOST_CHARACTERS = 1 << 20;

export interface MonitorOptions {
  /** Milliseconds for each answer. */
  readonly answerMs: number;
  readonly signal: AbortSignal;
}

interface Waiter {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** QEMU's machine protocol (docs/interop/qmp-spec.txt): a line of JSON for each command, answer and event. */
export class Monitor {
  /** Resolves when the program has closed the connection, as it does at its end, or `close` was called. */
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #answerMs: number;
  readonly #waiters: Waiter[] = [];
  #text = '';

  private constructor(path: string, { answerMs, signal }: MonitorOptions) {
    this.#answerMs = answerMs;
    const socket = connect({ path }).setEncoding('utf8');
    this.#socket = socket;
    const abort = () => socket.destroy(signal.reason);
    signal.addEventListener('abort', abort);
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        signal.removeEventListener('abort', abort);
        this.#failAll(new Error('it has closed its monitor'));
        resolve();
      });
    });
    socket.on('error', (error) => this.#failAll(error));
    socket.on('data', (text: string) => this.#receive(text));
  }

  /** Resolves when it takes commands. Rejects with a system's error, when it does not answer, or with the signal's reason. */
  static async connect(path: string, options: MonitorOptions): Promise<Monitor> {
    options.signal.throwIfAborted();
    const monitor = new Monitor(path, options);
    try {
      await monitor.#answer();
      await monitor.execute('qmp_capabilities');
      return monitor;
    } catch (error) {
      monitor.close();
      options.signal.throwIfAborted();
      throw error;
    }
  }

  /** Resolves with what a command returns. Rejects with what it says is wrong, or when it does not answer. */
  execute(command: string, parameters: object = {}): Promise<unknown> {
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: parameters })}\n`);
    return this.#answer();
  }

  close(): void {
    this.#socket.destroy();
  }

  /** The program may live without this process, and this process without it. */
  unref(): void {
    this.#socket.unref();
  }

  /** The next line that is no event. */
  #answer(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => this.#socket.destroy(new Error(this.#lateText)), this.#answerMs);
      const ended =
        <T>(then: (value: T) => void) =>
        (value: T) => {
          clearTimeout(late);
          then(value);
        };
      this.#waiters.push({ resolve: ended(resolve), reject: ended(reject) });
    });
  }

  get #lateText(): string {
    return `its monitor does not answer within ${this.#answerMs / 1000} seconds`;
  }

  #receive(text: string): void {
    const lines = (this.#text + text).split('\n');
    this.#text = lines.pop() ?? '';
    if (this.#text.length > MOST_CHARACTERS) this.#socket.destroy(new Error('its monitor says too much'));
    for (const line of lines) this.#line(line);
  }

  #line(line: string): void {
    let message: { QMP?: unknown; return?: unknown; error?: { desc?: string }; event?: string };
    try {
      message = JSON.parse(line);
    } catch {
      this.#socket.destroy(new Error('its monitor does not speak QMP'));
      return;
    }
    if (message.event !== undefined) return;
    const waiter = this.#waiters.shift();
    if (message.error) waiter?.reject(new Error(message.error.desc ?? 'it refuses'));
    else waiter?.resolve(message.return ?? message.QMP);
  }

  #failAll(error: Error): void {
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
  }
}
