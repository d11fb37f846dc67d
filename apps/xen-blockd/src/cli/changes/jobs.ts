import { setTimeout as sleep } from 'node:timers/promises';
import { QmpClient, type QmpEvent } from '@xenpv/qmp';
import { BlockdError } from '../../errors.js';
import { progressOn } from '../../status/progress.js';
import type { QueryOptions } from '../queries/query.js';

const POLL_MS = 250;
const TOLD_POLL_MS = 10;
const TOLD_MS = 5000;
const ENDS: readonly string[] = ['BLOCK_JOB_COMPLETED', 'BLOCK_JOB_CANCELLED'];

export interface Job {
  /** Its id: the disk's name. */
  readonly device: string;
  /** Bytes: `offset` of `len` are done. */
  readonly offset: number;
  readonly len: number;
  /** It has copied all, and can be completed. */
  readonly ready?: boolean;
}

/** A job of a disk, and how it gets on. */
export class JobWatch implements Disposable {
  readonly #client: QmpClient;
  readonly #device: string;
  readonly #ended: readonly QmpEvent[];

  private constructor(client: QmpClient, device: string, ended: readonly QmpEvent[]) {
    this.#client = client;
    this.#device = device;
    this.#ended = ended;
  }

  /** Before the job begins, so that its end is heard. Error: ERR_SOCKET. */
  static async open({ socket }: QueryOptions, device: string): Promise<JobWatch> {
    const ended: QmpEvent[] = [];
    const onEvent = (event: QmpEvent) => {
      if (ENDS.includes(event.event) && event.data?.device === device) ended.push(event);
    };
    return new JobWatch(await QmpClient.connect(socket, { onEvent }), device, ended);
  }

  /** Undefined: there is none, or no more. */
  async job(): Promise<Job | undefined> {
    const jobs = (await this.#client.execute('query-block-jobs')) as readonly Job[];
    return jobs.find((job) => job.device === this.#device);
  }

  /**
   * Resolves when the job has ended: with why it has failed, or undefined if it has not. Shows on a terminal how far it is.
   * Error: ERR_SOCKET, the daemon has ended; `op` is what the operator wanted. `complete` is called once, for a job that is ready;
   * what it rejects with is the error.
   */
  async end(op: string, complete?: () => Promise<unknown>): Promise<string | undefined> {
    using progress = progressOn(process.stderr);
    try {
      // The event comes before the job is known no more.
      for (let job = await this.job(); job && this.#ended.length === 0; job = await this.job()) {
        progress.update(job.offset, job.len);
        if (job.ready && complete) {
          await complete();
          await this.#told();
        } else await sleep(POLL_MS);
      }
    } catch (cause) {
      if (cause instanceof BlockdError) throw cause;
      const reason = `the daemon has ended: ${(cause as Error).message}; see xen-blockd list, and try again`;
      throw new BlockdError('ERR_SOCKET', op, `${this.#device}: ${reason}`, { cause });
    }
    const [end] = this.#ended;
    if (end?.event === 'BLOCK_JOB_COMPLETED' && end.data?.error === undefined) return undefined;
    return end === undefined ? 'its storage helper has ended' : `${end.data?.error ?? 'the job was cancelled'}`;
  }

  /** What is complete is told soon. */
  async #told(): Promise<void> {
    const deadline = performance.now() + TOLD_MS;
    while (this.#ended.length === 0 && performance.now() < deadline) await sleep(TOLD_POLL_MS);
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}
