import { QmpError, type QmpEvent } from '@xenpv/qmp';

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
  ended(event: QmpEvent): Promise<string | undefined>;
  /** There is no helper any more. */
  abandon(): Promise<void>;
}

/** What is left of a job that has ended, while its owner tidies up. */
export interface EndingJob {
  readonly id: string;
  readonly type: string;
  readonly offset: number;
  readonly len: number;
}

/** Those of one helper, from before they begin until nothing is left of them. One at a time. */
export class OwnedJobs {
  #job: OwnedJob | undefined;
  #ending: EndingJob | undefined;

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

  /** Runs `tell` when the owner of the job that an event tells of has done what is left to do, with why it has failed besides; at once if it has none. */
  async hear(event: QmpEvent, tell: (reason?: string) => void): Promise<void> {
    const { device: id, type, offset, len } = (event.data ?? {}) as Record<string, never>;
    const job = this.get(id);
    if (!job) {
      tell();
      return;
    }
    this.#ending = { id, type, offset, len };
    tell(await job.ended(event));
  }

  /** Resolves when nothing is left of any. */
  async abandon(): Promise<void> {
    await this.#job?.abandon();
  }
}
