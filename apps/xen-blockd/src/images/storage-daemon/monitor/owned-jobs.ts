import { QmpError, type QmpEvent } from '@xenpv/qmp';
import { isEndOfJob, isJobEvent, TRIED_JOB } from './jobs.js';

/** An event that tells how a job has ended. */
export type JobEnd = Pick<QmpEvent, 'event' | 'data'>;

/** Whether it has done all that it had to. */
export function isCopied({ event, data }: JobEnd): boolean {
  return event === 'BLOCK_JOB_COMPLETED' && data?.error === undefined;
}

/** A job of a helper for which this process has things to do at its end. */
export interface OwnedJob {
  /** Its id. */
  readonly id: string;
  /** QEMU's name of what it does, as `backup`. */
  readonly type: string;
  /** All that it has written is on stable storage when this resolves: it may end. A job whose `settle` rejects is cancelled. */
  settle(): Promise<void>;
  /**
   * It has ended, as an event of the monitor says, which others are told when this resolves: with what kept it from settling,
   * if anything has.
   */
  ended(event: JobEnd): Promise<string | undefined>;
  /** There is no helper any more. */
  abandon(): Promise<void>;
  /** It is {@link isReady}: the disk goes on with what it has made, when this resolves. Undefined: such jobs do nothing of that kind. */
  complete?(): Promise<void>;
  /** It is about to be told to end: who reads what it makes is hung up on before. */
  hangUp?(): Promise<void>;
  /** It was told to end, without what it has not done yet. */
  cancel?(): void;
  /** All is copied, and what is written is copied at once: it goes on like that until it is completed or cancelled. */
  isReady?: boolean;
}

/** What is left of a job that has ended, while its owner tidies up. */
export interface EndingJob {
  readonly id: string;
  readonly type: string;
  readonly offset: number;
  readonly len: number;
}

/** States in which QEMU has told how a job has ended. */
const ENDING: readonly string[] = ['concluded', 'null'];

/** Those of one helper, from before they begin until nothing is left of them. One at a time. */
export class OwnedJobs {
  #job: OwnedJob | undefined;
  #ending: EndingJob | undefined;
  #told: Promise<void> = Promise.resolve();
  /** The types, by their ids, of those that QEMU has told of, and not that they are gone. Owners may go before. */
  readonly #known = new Map<string, string>();

  /** Error: QmpError, there is one. */
  add(job: OwnedJob): void {
    if (this.#job) {
      throw QmpError.refusal(`block job ${this.#job.id} (${this.#job.type}) runs: wait for it, or block-job-cancel it`);
    }
    this.#job = job;
    this.#ending = undefined;
  }

  remove(job: OwnedJob): void {
    if (this.#job === job) this.#job = undefined;
  }

  get(id: unknown): OwnedJob | undefined {
    return this.#job?.id === id ? this.#job : undefined;
  }

  get current(): OwnedJob | undefined {
    return this.#job;
  }

  /** One that the helper knows no more. */
  get ending(): EndingJob | undefined {
    return this.#job && this.#ending;
  }

  /**
   * Takes an event, and runs `tell` if it is of a job: after those that came before it, and when the owner of a job that has
   * ended has done what is left to do, with why it has failed besides.
   */
  hear(event: QmpEvent, tell: (reason?: string) => void): Promise<void> {
    if (!isJobEvent(event) || event.data?.id === TRIED_JOB) return this.#told;
    if (event.event === 'JOB_STATUS_CHANGE') this.#note(event.data as { id: string; status: string });
    else if (isEndOfJob(event)) this.#known.delete(event.data?.device as string);
    const job = this.get(event.data?.device);
    if (job && event.event === 'BLOCK_JOB_READY') job.isReady = true;
    const end = job && isEndOfJob(event) ? this.#end(job, event) : undefined;
    this.#told = this.#told.then(async () => tell(await end));
    return this.#told;
  }

  /** Those that have ended unseen with their helper, which was stopped or died by itself: an event for each, as if QEMU had told it. */
  lost(how: 'stopped' | 'died'): QmpEvent[] {
    const lost = [...this.#known].flatMap(([id, type]) => {
      const reason = how === 'stopped' ? 'its storage helper was stopped' : 'its storage helper has ended';
      const data = { device: id, type, len: 0, offset: 0, speed: 0, error: reason };
      return [
        { event: how === 'stopped' ? 'BLOCK_JOB_CANCELLED' : 'BLOCK_JOB_COMPLETED', data },
        { event: 'JOB_STATUS_CHANGE', data: { id, status: 'concluded' } },
        { event: 'JOB_STATUS_CHANGE', data: { id, status: 'null' } },
      ];
    });
    this.#known.clear();
    return lost.map((event) => ({ ...event, timestamp: { seconds: 0, microseconds: 0 } }));
  }

  #note({ id, status }: { readonly id: string; readonly status: string }): void {
    // What comes after it tells nothing new of it.
    if (ENDING.includes(status)) this.#known.delete(id);
    else if (!this.#known.has(id)) this.#known.set(id, this.get(id)?.type ?? 'stream');
  }

  #end(job: OwnedJob, event: QmpEvent): Promise<string | undefined> {
    const { device: id, type, offset, len } = event.data as Record<string, never>;
    this.#ending = { id, type, offset, len };
    return job.ended(event);
  }

  /** Resolves when nothing is left of any. */
  async abandon(): Promise<void> {
    await this.#job?.abandon();
  }
}
