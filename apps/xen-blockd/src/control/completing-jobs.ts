import type { BlockJob } from '../images/storage-daemon/monitor/jobs.js';

/** Jobs whose disks are about to go on with what they have made: no helper knows them, until their ends are told. */
export class CompletingJobs {
  readonly #jobs = new Map<string, BlockJob>();

  add(job: BlockJob): void {
    this.#jobs.set(job.device, job);
  }

  remove(id: string): void {
    this.#jobs.delete(id);
  }

  /** Those that are not among the jobs that are known. */
  besides(known: readonly BlockJob[]): BlockJob[] {
    return [...this.#jobs.values()].filter((job) => !known.some(({ device }) => device === job.device));
  }
}
