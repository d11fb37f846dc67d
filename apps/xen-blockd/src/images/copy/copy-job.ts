/**
 * A copy of a disk in use, which a job in the disk's helper makes: the target is a node of that helper, behind a server on a
 * socket in its folder. What is left of a job is tidied up once, however it ends.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type QmpClient, QmpError } from '@xenpv/qmp';
import type { BlockDevice, DiskStop, KeptFailures } from '@xenpv/xen-block';
import { forgetTargets, TARGET } from '../storage-daemon/adoption/left-targets.js';
import { isCopied, type JobEnd, type OwnedJob } from '../storage-daemon/monitor/owned-jobs.js';
import type { StorageDaemon } from '../storage-daemon/storage-daemon.js';
import type { CopyTarget } from './target.js';

const POLL_MS = 10;
/** A job has its nodes until just after it has told its end. */
const RELEASE_MS = 5000;

/** For what is in flight to a target to end, before that is cut off. */
const CANCEL_MS = 2000;

export interface CopiedDisk {
  readonly disk: Pick<BlockDevice, 'keepFailures' | 'exchangeImage'>;
  readonly helper: StorageDaemon;
}

/** Makes the target, with its socket in this folder. */
export type OpenTarget = (folder: string) => Promise<CopyTarget>;

export abstract class CopyJob implements OwnedJob {
  readonly id: string;
  abstract readonly type: string;
  protected readonly helper: StorageDaemon;
  protected readonly disk: CopiedDisk['disk'];
  protected monitor: QmpClient | undefined;
  protected target: CopyTarget | undefined;
  #kept: KeptFailures | undefined;
  #settling: Promise<void> | undefined;
  #over: Promise<void> | undefined;
  #isBegun = false;

  constructor({ disk, helper }: CopiedDisk, id: string) {
    this.disk = disk;
    this.helper = helper;
    this.id = id;
  }

  /** Has QEMU begin. */
  protected abstract startJob(monitor: QmpClient): Promise<unknown>;
  /** All that was written to the target is on stable storage when this resolves. */
  protected abstract flushTarget(): Promise<void>;

  /** Errors: QmpError, QEMU refuses it, or another job runs; what `open` rejects with. Then nothing is left of it. */
  protected async begin(open: OpenTarget): Promise<void> {
    this.helper.jobs.add(this);
    try {
      await this.#begin(open);
    } catch (error) {
      await this.end('failed');
      throw error;
    }
  }

  async #begin(open: OpenTarget): Promise<void> {
    const monitor = await this.helper.monitor();
    this.monitor = monitor;
    void monitor.closed.then(() => this.abandon());
    this.target = await open(this.helper.folder);
    if (this.#over) {
      // It was not there yet to be tidied up.
      await this.target.close('failed');
      throw helperHasEnded();
    }
    const { socket, exportName } = this.target;
    const server = { type: 'unix', path: socket };
    await monitor.execute('blockdev-add', { driver: 'nbd', 'node-name': TARGET, server, export: exportName });
    this.#isBegun = true;
    // QEMU fails a guest's write that has to wait for its copy when the target fails that.
    this.#kept = await this.disk.keepFailures((stop) => void this.#lose(monitor, reasonOf(stop)));
    await this.startJob(monitor);
    void this.target.lost.then((reason) => this.#lose(monitor, reason));
  }

  /** Guests' writes that wait for a copy fail from now on, and are kept: no job goes on for that. */
  async #lose(monitor: QmpClient, reason: string): Promise<void> {
    if (this.#over) return;
    this.#settling = Promise.reject(new Error(reason));
    this.#settling.catch(() => {});
    // One that has ended by now says so itself.
    await monitor.execute('block-job-cancel', { device: this.id, force: true }).catch(() => {});
  }

  settle(): Promise<void> {
    this.#settling ??= this.#settle();
    return this.#settling;
  }

  async ended(end: JobEnd): Promise<string | undefined> {
    const isSettled =
      isCopied(end) &&
      (await this.settle().then(
        () => true,
        () => false,
      ));
    await this.end(isSettled ? 'copied' : 'failed');
    return this.#settling?.then(
      () => undefined,
      (error: Error) => error.message,
    );
  }

  /** A target that has its name is whole, whatever became of the job. */
  abandon(): Promise<void> {
    return this.end('failed');
  }

  async #settle(): Promise<void> {
    if (!this.target) throw new Error('there is no target');
    await this.flushTarget();
    await this.target.complete();
  }

  /** It is being cancelled by force: a target that hangs is not waited for. */
  cancel(): void {
    const late = setTimeout(() => {
      if (!this.#over) void this.target?.close('failed');
    }, CANCEL_MS);
    late.unref();
  }

  protected get isOver(): boolean {
    return this.#over !== undefined;
  }

  protected end(how: 'copied' | 'failed'): Promise<void> {
    this.#over ??= this.tidy(how);
    return this.#over;
  }

  /** Lets go of all that it had. It never rejects. */
  protected async tidy(how: 'copied' | 'failed'): Promise<void> {
    try {
      if (this.#isBegun) await this.#release().catch(() => {});
      await this.#settling?.catch(() => {});
      await this.target?.close(how);
    } finally {
      this.helper.jobs.remove(this);
      // Nothing copies any more: what was kept is written past it.
      await this.#kept?.release();
    }
  }

  async #release(): Promise<void> {
    const deadline = performance.now() + RELEASE_MS;
    while (this.monitor && !(await forgetTargets(this.monitor)) && performance.now() < deadline) await sleep(POLL_MS);
  }
}

export function helperHasEnded(): QmpError {
  return QmpError.refusal('the storage helper of the disk has ended', 'DeviceNotActive');
}

function reasonOf({ operation, errno }: DiskStop): string {
  return `a ${operation} of the guest has failed (${errno}), as it does when the target takes no more`;
}
