import { type QmpClient, QmpError } from '@xenpv/qmp';
import type { BlockDevice, ImageExchange } from '@xenpv/xen-block';
import { Deadline } from '../../deadline.js';
import { isCopied, type JobEnd } from '../storage-daemon/monitor/owned-jobs.js';

/** For the requests in flight to end, and for the last of them to be copied: storage may hang. */
const EXCHANGE_MS = 30_000;

/** How a job that is ready is completed: its disk goes on with what it has made, while the guest's requests wait. */
export class ReadyEnd {
  #completing: Promise<void> | undefined;
  #tell: (end: JobEnd | undefined) => void = () => {};

  /** Somebody completes it. */
  get isWanted(): boolean {
    return this.#completing !== undefined;
  }

  /** The job has ended; undefined: with its helper. */
  tell(end: JobEnd | undefined): void {
    this.#tell(end);
  }

  /** Resolves when nobody completes it any more, with why that has failed, or undefined. */
  failure(): Promise<string | undefined> {
    const completing = this.#completing ?? Promise.resolve();
    return completing.then(
      () => undefined,
      (error: Error) => error.message,
    );
  }

  /** Rejects with why the disk goes on with what it had. */
  async complete(disk: Pick<BlockDevice, 'exchangeImage'>, exchange: ImageExchange): Promise<void> {
    // Whoever has asked for it may be gone meanwhile.
    using deadline = new Deadline(new AbortController().signal, EXCHANGE_MS);
    const { signal } = deadline;
    const completing = disk.exchangeImage(exchange, { signal });
    this.#completing = completing;
    try {
      await completing;
    } finally {
      this.#completing = undefined;
    }
  }

  /**
   * Nothing more is written: QEMU copies the rest, flushes it, and ends without a change of its own. Resolves when `tell` was
   * called for that. Errors: QmpError, it has ended without all; the signal's reason, and it is cancelled.
   */
  async of(monitor: QmpClient, id: string, signal: AbortSignal): Promise<void> {
    const ended = new Promise<JobEnd | undefined>((resolve) => {
      this.#tell = resolve;
    });
    const giveUp = () => void monitor.execute('block-job-cancel', { device: id, force: true }).catch(() => {});
    signal.addEventListener('abort', giveUp, { once: true });
    try {
      await monitor.execute('block-job-cancel', { device: id });
      const end = await ended;
      if (end && isCopied(end)) return;
      signal.throwIfAborted();
      throw QmpError.refusal(`${end?.data?.error ?? 'the job has ended before all was copied'}`);
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }
}
