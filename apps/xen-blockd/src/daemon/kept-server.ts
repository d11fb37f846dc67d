import { Backoff, errorMessage } from '@xenpv/xenbus';
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
  readonly #backoff = new Backoff({ firstMs: FIRST_PAUSE_MS, lastMs: LONGEST_PAUSE_MS, spread: 0 });
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
      this.#later();
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

  #later(): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#attempt = this.#tryAgain();
    }, this.#backoff.failed()).unref();
  }

  async #tryAgain(): Promise<void> {
    try {
      this.#server = await this.#listen();
      this.#logger.info(`${this.#name} there again`);
    } catch {
      this.#later();
    }
  }
}
