import { setTimeout as sleep } from 'node:timers/promises';
import type { QmpEvent } from '@xenpv/qmp';
import * as v from 'valibot';
import { Conversation } from '../../control/ask-daemon.js';
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
export class JobWatch implements AsyncDisposable {
  /** Whether the disk had one when the watch began: one that was left to go on. */
  readonly wasRunning: boolean;
  readonly #conversation: Conversation;
  readonly #device: string;
  readonly #ended: readonly QmpEvent[];

  private constructor(
    conversation: Conversation,
    { device, ended, wasRunning }: { device: string; ended: readonly QmpEvent[]; wasRunning: boolean },
  ) {
    this.#conversation = conversation;
    this.#device = device;
    this.#ended = ended;
    this.wasRunning = wasRunning;
  }

  /** Before the job begins, so that its end is heard. Error: ERR_SOCKET. */
  static async open({ socket, timeout }: QueryOptions, device: string): Promise<JobWatch> {
    const ended: QmpEvent[] = [];
    const onEvent = (event: QmpEvent) => {
      if (ENDS.includes(event.event) && event.data?.device === device) ended.push(event);
    };
    const answerMs = timeout === undefined ? undefined : timeout * 1000;
    const conversation = new Conversation(socket, { answerMs, onEvent });
    try {
      // The conversation begins with the first question.
      const wasRunning = (await jobOf(conversation, device)) !== undefined;
      return new JobWatch(conversation, { device, ended, wasRunning });
    } catch (error) {
      await conversation[Symbol.asyncDispose]();
      throw error;
    }
  }

  /**
   * Resolves when the job has ended: with why it has failed, or undefined if it has not. Shows on a terminal how far it is.
   * Error: ERR_SOCKET, the daemon does not tell any more; `op` is what the operator wanted. `complete` is called once, for a job
   * that is ready; what it rejects with is the error.
   */
  async end(op: string, complete?: () => Promise<unknown>): Promise<string | undefined> {
    using progress = progressOn(process.stderr);
    // The event comes before the job is known no more.
    for (let job = await this.#look(op); job && this.#ended.length === 0; job = await this.#look(op)) {
      progress.update(job.offset, job.len);
      if (job.ready && complete) {
        await complete();
        await this.#told();
      } else await sleep(POLL_MS);
    }
    const [end] = this.#ended;
    if (end?.event === 'BLOCK_JOB_COMPLETED' && end.data?.error === undefined) return undefined;
    return end === undefined ? 'its storage helper has ended' : `${end.data?.error ?? 'the job was cancelled'}`;
  }

  /** The job, once it has begun. */
  async #look(op: string): Promise<Job | undefined> {
    try {
      return await jobOf(this.#conversation, this.#device);
    } catch (cause) {
      const message = `${this.#device}: how its job ends is not known: ${(cause as Error).message}`;
      throw new BlockdError('ERR_SOCKET', op, `${message}; see xen-blockd list, and try again`, { cause });
    }
  }

  /** What is complete is told soon. */
  async #told(): Promise<void> {
    const deadline = performance.now() + TOLD_MS;
    while (this.#ended.length === 0 && performance.now() < deadline) await sleep(TOLD_POLL_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#conversation[Symbol.asyncDispose]();
  }
}

const JOBS_ANSWER = v.array(v.object({ device: v.string(), offset: v.number(), len: v.number() }));

/** Undefined: there is none, or no more. Error: ERR_SOCKET. */
async function jobOf(conversation: Conversation, device: string): Promise<Job | undefined> {
  const jobs = await conversation.ask<readonly Job[]>('query-block-jobs', {}, JOBS_ANSWER);
  return jobs.find((job) => job.device === device);
}
