import { errorMessage } from '@xenpv/xenbus';
import type { Logger } from 'pino';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 60_000;

/**
 * A server that serving does without: where it cannot listen, a warning says so, and it is tried again until it can.
 */
export class KeptServer implements AsyncDisposable {
  readonly #name: string;
  readonly #listen: () => Promise<AsyncDisposable>;
  readonly #logger: Logger;
  #server: AsyncDisposable | undefined;
  #attempt: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(name: string, listen: () => Promise<AsyncDisposable>, logger: Logger) {
    this.#name = name;
    this.#listen = listen;
    this.#logger = logger;
  }

  /** Tries once, and goes on by itself. */
  async open(): Promise<void> {
    try {
      this.#server = await this.#listen();
    } catch (error) {
      this.#logger.warn({ reason: errorMessage(error) }, `no ${this.#name}; disks are served, and it is tried again`);
      this.#later(FIRST_PAUSE_MS);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#attempt;
    const server = this.#server;
    this.#server = undefined;
    await server?.[Symbol.asyncDispose]();
  }

  #later(pauseMs: number): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#attempt = this.#tryAgain(pauseMs);
    }, pauseMs).unref();
  }

  async #tryAgain(pauseMs: number): Promise<void> {
    try {
      this.#server = await this.#listen();
      this.#logger.info(`${this.#name} there again`);
    } catch {
      this.#later(Math.min(2 * pauseMs, LONGEST_PAUSE_MS));
    }
  }
}
