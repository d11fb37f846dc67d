import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { BlkfrontOptions } from '@xenpv/blkfront';
import type { EmulatedDomain } from '@xenpv/emulator';

/** How a guest's frontend negotiates. */
export type Frontend = Pick<
  BlkfrontOptions,
  'vdev' | 'abi' | 'ringPageOrder' | 'queues' | 'persistent' | 'maxIndirectSegments' | 'poolPages'
>;

/** The thread's workerData. */
export interface GuestStart {
  readonly guest: number;
  /** `share()` of the guest's provider, its data. */
  readonly provider: unknown;
  readonly frontend: Frontend;
  readonly model: SharedArrayBuffer;
  readonly figures: SharedArrayBuffer;
  /** Of a guest whose disk is a drive. */
  readonly media: SharedArrayBuffer | undefined;
  readonly seed: number;
  readonly depth: number;
  readonly thinkMs: number;
}

export type GuestMessage = { readonly connected: true } | { readonly failed: string } | { readonly closed: true };

/** `finish`: read all of the disk once more. */
export type GuestCommand = 'stop' | 'finish';

/** One life of a guest: a thread that is told to stop, or that is ended at any instant as a kernel that crashes. */
export class GuestLife {
  readonly connected: Promise<void>;
  readonly #worker: Worker;
  readonly #closed: Promise<void>;

  constructor(domain: EmulatedDomain, start: Omit<GuestStart, 'provider'>, failed: (problem: string) => void) {
    const program = new URL('./threads/crash-guest.js', import.meta.url);
    const workerData = { ...start, provider: domain.share().data } satisfies GuestStart;
    this.#worker = new Worker(program, { workerData });
    this.#worker.on('error', (error) => failed(`its thread ended: ${error.stack}`));
    this.connected = this.#told((message) => 'connected' in message);
    this.#closed = this.#told((message) => 'closed' in message);
    this.#worker.on('message', (message: GuestMessage) => {
      if ('failed' in message) failed(message.failed);
    });
  }

  /** Ends the load, waits for what is in flight, and closes the disk. Resolves when the backend has closed it too. */
  async stop(command: GuestCommand = 'stop'): Promise<void> {
    this.#worker.postMessage(command);
    await this.#closed;
    await this.#worker.terminate();
  }

  /** Ends it as it is. */
  async crash(): Promise<void> {
    await this.#worker.terminate();
  }

  /** Resolves with the message; also when the thread ends without, for whoever ended it waits no more. */
  async #told(isIt: (message: GuestMessage) => boolean): Promise<void> {
    const ended = once(this.#worker, 'exit');
    await new Promise<void>((resolve) => {
      this.#worker.on('message', (message: GuestMessage) => {
        if (isIt(message)) resolve();
      });
      void ended.then(() => resolve());
    });
  }
}
