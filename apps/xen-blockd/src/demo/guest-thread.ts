import { Worker } from 'node:worker_threads';
import { BlockdError } from '../errors.js';
import { packageRoot } from '../package-root.js';
import type { GuestCommand, GuestData, GuestMessage } from './guest-messages.js';

type Type = GuestMessage['type'];
type MessageOf<T extends Type> = Extract<GuestMessage, { type: T }>;

/** A demo guest on its own thread, seen from the host. */
export class GuestThread implements AsyncDisposable {
  readonly name: string;
  readonly #worker: Worker;
  readonly #seen = new Map<Type, GuestMessage>();
  readonly #waiters = new Set<() => void>();
  #failure: BlockdError | undefined;
  /** Resolves when the thread has ended, whatever the reason. */
  readonly exited: Promise<void>;
  /** Bytes read so far. */
  bytesRead = 0;

  constructor(name: string, data: GuestData, progressed: () => void) {
    this.name = name;
    this.#worker = new Worker(new URL('dist/guest.js', packageRoot), { workerData: data, name });
    this.#worker.on('message', (message: GuestMessage) => {
      if (message.type === 'progress') {
        this.bytesRead = message.bytes;
        progressed();
      } else this.#note(message);
    });
    this.#worker.on('error', (error) => this.#fail(error.message));
    this.exited = new Promise((resolve) => {
      this.#worker.on('exit', (code) => {
        this.#fail(`its thread ended with ${code}`);
        resolve();
      });
    });
  }

  /** The guest's message of this type, now or when it comes. Rejects with ERR_GUEST when the guest failed or ended. */
  async message<T extends Type>(type: T): Promise<MessageOf<T>> {
    for (;;) {
      const message = this.#seen.get(type);
      if (message) return message as MessageOf<T>;
      if (this.#failure) throw this.#failure;
      await new Promise<void>((resolve) => this.#waiters.add(resolve));
    }
  }

  tell(command: GuestCommand): void {
    this.#worker.postMessage(command);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }

  #note(message: GuestMessage): void {
    if (message.type === 'error') this.#fail(message.message);
    else this.#seen.set(message.type, message);
    this.#wake();
  }

  #fail(reason: string): void {
    this.#failure ??= new BlockdError('ERR_GUEST', 'run guest', `${this.name}: ${reason}`);
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiters) wake();
    this.#waiters.clear();
  }
}
