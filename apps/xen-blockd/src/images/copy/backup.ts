/**
 * A copy of a disk in use as it is at one instant: QEMU's backup job in the disk's helper. What the guest overwrites is copied
 * first. The job ends when all is on stable storage and the target has its name: only then a bitmap forgets what was copied.
 */
import type { QmpClient } from '@xenpv/qmp';
import { TARGET } from '../storage-daemon/adoption/left-targets.js';
import { EXPORT } from '../storage-daemon/arguments.js';
import { atOnce, type CarryOut } from '../storage-daemon/monitor/actions.js';
import { flushNode } from '../storage-daemon/monitor/finalize.js';
import { type CopiedDisk, CopyJob, type OpenTarget } from './copy-job.js';

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

export class Backup extends CopyJob {
  readonly type = 'backup';
  readonly #task: Omit<BackupTask, 'id'>;
  readonly #carryOut: CarryOut;

  private constructor(disk: CopiedDisk, { id, ...task }: BackupTask, carryOut: CarryOut) {
    super(disk, id);
    this.#task = task;
    this.#carryOut = carryOut;
  }

  /**
   * Begins a backup; BLOCK_JOB_COMPLETED or BLOCK_JOB_CANCELLED of the helper tells its end. Errors: QmpError, QEMU refuses
   * it, or another job runs; what `open` or `carryOut` rejects with. Then nothing is left of it.
   */
  static start(disk: CopiedDisk, task: BackupTask, open: OpenTarget, carryOut = atOnce): Promise<void> {
    return new Backup(disk, task, carryOut).begin(open);
  }

  protected startJob(monitor: QmpClient): Promise<unknown> {
    const data = {
      ...{ 'job-id': this.id, device: EXPORT, target: TARGET, ...this.#task },
      ...{ 'on-source-error': 'report', 'on-target-error': 'report' },
      // The target is to be settled first.
      'auto-finalize': false,
    };
    return this.#carryOut(monitor, { type: 'blockdev-backup', data });
  }

  /** On the connection that has written: a server need not flush what others have. */
  protected async flushTarget(): Promise<void> {
    if (this.monitor) await flushNode(this.monitor, this.helper.socket, TARGET);
  }
}
