import { QmpError } from '@xenpv/qmp';
import type { BlockJob } from '../images/storage-daemon/monitor/jobs.js';

/** QEMU's JobInfo. */
export interface JobInfo {
  readonly id: string;
  readonly type: string;
  readonly status: string;
  readonly 'current-progress': number;
  readonly 'total-progress': number;
  readonly error?: string;
}

export function jobInfo({ device: id, type, status, offset, len }: BlockJob): JobInfo {
  return { id, type, status, 'current-progress': offset, 'total-progress': len };
}

/**
 * Jobs that no helper knows: those whose disks are about to go on with what they have made, until their ends are told; and
 * those that have ended and are to be dismissed by who has begun them.
 */
export class KnownJobs {
  /** Disks by the ids of their jobs. */
  readonly #beginning = new Map<string, string>();
  readonly #completing = new Map<string, BlockJob>();
  /** Undefined: it has not ended. */
  readonly #kept = new Map<string, JobInfo | undefined>();

  /** Until the result is disposed of no other job begins by that id, or of that disk. Error: QmpError, one does. */
  beginning(id: string, disk: string): Disposable {
    if (this.#beginning.has(id)) throw QmpError.refusal(`Job ID '${id}' already in use`);
    const other = [...this.#beginning].find(([, each]) => each === disk);
    if (other) throw QmpError.refusal(`block job ${other[0]} of ${disk} is being begun: it has one at a time`);
    this.#beginning.set(id, disk);
    return { [Symbol.dispose]: () => void this.#beginning.delete(id) };
  }

  completing(job: BlockJob): void {
    this.#completing.set(job.device, job);
  }

  /** Its disk goes on with what it had. */
  notCompleting(id: string): void {
    this.#completing.delete(id);
  }

  /** Those that are being completed, and are not among the jobs that are known. */
  besides(known: readonly BlockJob[]): BlockJob[] {
    return [...this.#completing.values()].filter((job) => !known.some(({ device }) => device === job.device));
  }

  /** The job stays known when it has ended, until it is dismissed. */
  keep(id: string): void {
    this.#kept.set(id, undefined);
  }

  /** A job that did not begin, or is dismissed. */
  forget(id: string): void {
    this.#kept.delete(id);
  }

  /** One that has ended, and is not dismissed. */
  concluded(id: string): JobInfo | undefined {
    return this.#kept.get(id);
  }

  get allConcluded(): JobInfo[] {
    return [...this.#kept.values()].filter((job) => job !== undefined);
  }

  /** Takes an event of a job. Returns whether others are to be told: not that one is gone which is kept. */
  hear(event: string, data: Readonly<Record<string, unknown>>): boolean {
    if (event === 'JOB_STATUS_CHANGE') return data.status !== 'null' || this.#kept.get(data.id as string) === undefined;
    if (event === 'BLOCK_JOB_READY') return true;
    const { device, type, offset, len, error } = data as Record<string, never>;
    this.#completing.delete(device);
    if (this.#kept.has(device)) {
      const info = jobInfo({ device, type, offset, len, status: 'concluded' });
      this.#kept.set(device, error === undefined ? info : { ...info, error });
    }
    return true;
  }
}
