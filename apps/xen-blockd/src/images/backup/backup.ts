/**
 * A copy of a disk in use as it is at one instant: QEMU's backup job in the disk's helper. What the guest overwrites is copied
 * first. The job ends when all is on stable storage and the target has its name: only then a bitmap forgets what was copied.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type QmpClient, QmpError } from '@xenpv/qmp';
import type { BlockDevice, DiskStop, KeptFailures } from '@xenpv/xen-block';
import { TARGET } from '../storage-daemon/adoption/left-targets.js';
import { EXPORT } from '../storage-daemon/arguments.js';
import { flushNode } from '../storage-daemon/monitor/finalize.js';
import type { OwnedJob } from '../storage-daemon/monitor/owned-jobs.js';
import type { StorageDaemon } from '../storage-daemon/storage-daemon.js';
import type { BackupTarget } from './target.js';

const POLL_MS = 10;
/** A job has its nodes until just after it has told its end. */
const RELEASE_MS = 5000;

export interface BackupTask {
  /** The job's. */
  readonly id: string;
  readonly sync: 'full' | 'top' | 'none' | 'incremental' | 'bitmap';
  readonly bitmap?: string | undefined;
  readonly 'bitmap-mode'?: string | undefined;
  /** Bytes in a second; 0 is no limit. */
  readonly speed?: number | undefined;
  readonly compress?: boolean | undefined;
}

export interface BackedUpDisk {
  readonly disk: Pick<BlockDevice, 'keepFailures'>;
  readonly helper: StorageDaemon;
}

export class Backup implements OwnedJob {
  readonly id: string;
  readonly type = 'backup';
  readonly #disk: BackedUpDisk['disk'];
  readonly #helper: StorageDaemon;
  #monitor: QmpClient | undefined;
  #target: BackupTarget | undefined;
  #kept: KeptFailures | undefined;
  #settling: Promise<void> | undefined;
  #over: Promise<void> | undefined;
  #isBegun = false;

  private constructor({ disk, helper }: BackedUpDisk, id: string) {
    this.#disk = disk;
    this.#helper = helper;
    this.id = id;
  }

  /**
   * Begins a backup; BLOCK_JOB_COMPLETED or BLOCK_JOB_CANCELLED of the helper tells its end. Errors: QmpError, QEMU refuses
   * it, or another job runs; what `open` rejects with. Then nothing is left of it.
   */
  static async start(
    backedUp: BackedUpDisk,
    { id, ...task }: BackupTask,
    open: (folder: string) => Promise<BackupTarget>,
  ): Promise<void> {
    const backup = new Backup(backedUp, id);
    backedUp.helper.jobs.add(backup);
    try {
      await backup.#begin(task, open);
    } catch (error) {
      await backup.#end('failed');
      throw error;
    }
  }

  async #begin(task: Omit<BackupTask, 'id'>, open: (folder: string) => Promise<BackupTarget>): Promise<void> {
    const monitor = await this.#helper.monitor();
    this.#monitor = monitor;
    void monitor.closed.then(() => this.abandon());
    this.#target = await open(this.#helper.folder);
    if (this.#over) {
      // It was not there yet to be tidied up.
      await this.#target.close('failed');
      throw QmpError.refusal('the storage helper of the disk has ended', 'DeviceNotActive');
    }
    const { socket, exportName } = this.#target;
    const server = { type: 'unix', path: socket };
    await monitor.execute('blockdev-add', { driver: 'nbd', 'node-name': TARGET, server, export: exportName });
    this.#isBegun = true;
    // QEMU fails a guest's write that has to wait for its copy when the target fails that.
    this.#kept = await this.#disk.keepFailures((stop) => void this.#lose(monitor, reasonOf(stop)));
    await monitor.execute('blockdev-backup', {
      ...{ 'job-id': this.id, device: EXPORT, target: TARGET, ...task },
      ...{ 'on-source-error': 'report', 'on-target-error': 'report' },
      // See settle.
      'auto-finalize': false,
    });
    void this.#target.lost.then((reason) => this.#lose(monitor, reason));
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

  async ended({ event, data }: Parameters<OwnedJob['ended']>[0]): Promise<string | undefined> {
    const isCopied = event === 'BLOCK_JOB_COMPLETED' && data?.error === undefined;
    await this.#end(isCopied ? 'copied' : 'failed');
    return this.#settling?.then(
      () => undefined,
      (error: Error) => error.message,
    );
  }

  /** A target that has its name is whole, whatever became of the job. */
  abandon(): Promise<void> {
    return this.#end('failed');
  }

  async #settle(): Promise<void> {
    if (!this.#target || !this.#monitor) throw new Error('there is no target');
    // On the connection that has written: a server need not flush what others have.
    await flushNode(this.#monitor, this.#helper.socket, TARGET);
    await this.#target.complete();
  }

  #end(how: 'copied' | 'failed'): Promise<void> {
    this.#over ??= this.#tidy(how);
    return this.#over;
  }

  async #tidy(how: 'copied' | 'failed'): Promise<void> {
    try {
      if (this.#isBegun) await this.#release().catch(() => {});
      await this.#settling?.catch(() => {});
      await this.#target?.close(how);
    } finally {
      this.#helper.jobs.remove(this);
      // Nothing copies any more: what was kept is written past it.
      await this.#kept?.release();
    }
  }

  async #release(): Promise<void> {
    const deadline = performance.now() + RELEASE_MS;
    for (;;) {
      try {
        await this.#monitor?.execute('blockdev-del', { 'node-name': TARGET });
        return;
      } catch (error) {
        const isUsed = error instanceof QmpError && error.code === 'ERR_COMMAND' && performance.now() < deadline;
        if (!isUsed) throw error;
        await sleep(POLL_MS);
      }
    }
  }
}

function reasonOf({ operation, errno }: DiskStop): string {
  return `a ${operation} of the guest has failed (${errno}), as it does when the target takes no more`;
}
