/**
 * A backup that is pulled: a scratch image gets what the guest overwrites, before it does, so that both together are the disk of one
 * instant, which clients of NBD read. QEMU calls that fleecing. The disk's helper can open no file: the scratch image's is
 * served by a helper of its own, as every target's is, and the disk's has the format on that.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { openNbdImage } from '@xenpv/blockdev';
import { type QmpClient, QmpError } from '@xenpv/qmp';
import { LentImage } from '../lent-image.js';
import { SCRATCH, TARGET } from '../storage-daemon/adoption/left-targets.js';
import { EXPORT } from '../storage-daemon/arguments.js';
import { atOnce, type CarryOut } from '../storage-daemon/monitor/actions.js';
import { TRIED_JOB } from '../storage-daemon/monitor/jobs.js';
import { type StatusChoice, StatusExport } from '../storage-daemon/monitor/status-export.js';
import type { BackupTask } from './backup.js';
import { type CopiedDisk, CopyJob, helperHasEnded, type OpenTarget } from './copy-job.js';

const FORMAT = 'qcow2';
const POLL_MS = 5;
const MIB = 1 << 20;
/** Of a disk's bytes, what the smallest clusters need besides the data. */
const MOST_METADATA = 1 / 32;

/** What a file needs for all of a disk to be overwritten. It takes no space before it is written. */
export function scratchBytes(size: number): number {
  return MIB * Math.ceil((size * (1 + MOST_METADATA)) / MIB + 4);
}

export interface PulledTask extends BackupTask {
  readonly scratch: {
    /** What blockdev-add has called it. */
    readonly node: string;
    /** Bytes of the disk. */
    readonly size: number;
    /** Runs once, when nothing has it any more. */
    readonly gone: () => void;
  };
}

/** What clients read, until the job ends. */
export interface PulledImage {
  readonly image: LentImage;
  readonly status: StatusExport;
  /** Begins to close the image: it may be closing, and waits for who calls this then. */
  readonly close: () => Promise<void>;
}

export class PulledBackup extends CopyJob {
  readonly type = 'backup';
  readonly #task: PulledTask;
  readonly #carryOut: CarryOut;
  /** Those that are read. */
  readonly #images = new Set<LentImage>();
  #isRead = true;

  private constructor(disk: CopiedDisk, task: PulledTask, carryOut: CarryOut) {
    super(disk, task.id);
    this.#task = task;
    this.#carryOut = carryOut;
  }

  /** As Backup.start. It goes on until it is cancelled. */
  static async start(disk: CopiedDisk, task: PulledTask, open: OpenTarget, carryOut = atOnce): Promise<void> {
    const backup = new PulledBackup(disk, task, carryOut);
    try {
      await backup.begin(open);
    } catch (error) {
      // Another job of the disk runs.
      if (!backup.isOver) task.scratch.gone();
      throw error;
    }
  }

  /** What blockdev-add has called the scratch image. */
  get node(): string {
    return this.#task.scratch.node;
  }

  /** The disk as it was when the job began. Errors: QmpError, the job ends, or QEMU does not lend a bitmap; as openNbdImage. */
  async open(choice: StatusChoice): Promise<PulledImage> {
    this.#mustRun();
    const status = await StatusExport.open(this.helper, choice, SCRATCH);
    try {
      // One that hangs has storage that hangs, which the guest waits for too.
      const options = { exportName: status.name, readOnly: true, reconnect: 0, silence: Number.POSITIVE_INFINITY };
      const image = new LentImage(await openNbdImage(this.helper.socket, options));
      this.#images.add(image);
      // Whoever hung up meanwhile did not know of it.
      if (!this.#isRead) void image.close().catch(() => {});
      return { image, status, close: async () => this.#close(image) };
    } catch (error) {
      await status[Symbol.asyncDispose]();
      throw error;
    }
  }

  #close(image: LentImage): void {
    const forget = () => this.#images.delete(image);
    image.close().then(forget, forget);
  }

  async hangUp(): Promise<void> {
    this.#isRead = false;
    await Promise.allSettled([...this.#images].map((image) => image.close()));
  }

  #mustRun(): void {
    if (!this.#isRead || this.isOver) throw QmpError.refusal(`block job ${this.id} is ending`, 'DeviceNotActive');
  }

  protected async startJob(monitor: QmpClient): Promise<unknown> {
    const { id, scratch, ...task } = this.#task;
    await format(monitor, scratch.size);
    const node = { driver: FORMAT, 'node-name': SCRATCH, file: TARGET, backing: EXPORT };
    await monitor.execute('blockdev-add', node);
    if (this.isOver) throw helperHasEnded();
    const data = {
      ...{ 'job-id': id, device: EXPORT, target: SCRATCH, ...task },
      ...{ 'on-source-error': 'report', 'on-target-error': 'report' },
    };
    return this.#carryOut(monitor, { type: 'blockdev-backup', data });
  }

  /** Nothing of it is to be kept. */
  protected async flushTarget(): Promise<void> {}

  protected override async tidy(how: 'copied' | 'failed'): Promise<void> {
    await this.hangUp();
    await super.tidy(how).finally(this.#task.scratch.gone);
  }
}

/** Whatever is in the target, nothing of it is in the scratch image. Errors: QmpError. */
async function format(monitor: QmpClient, size: number): Promise<void> {
  const options = { driver: FORMAT, file: TARGET, size };
  await monitor.execute('blockdev-create', { 'job-id': TRIED_JOB, options });
  for (;;) {
    const jobs = (await monitor.execute('query-jobs')) as { id: string; status: string; error?: string }[];
    const made = jobs.find(({ id }) => id === TRIED_JOB);
    if (made && made.status !== 'concluded') {
      await sleep(POLL_MS);
      continue;
    }
    await monitor.execute('job-dismiss', { id: TRIED_JOB });
    if (made?.error !== undefined) throw QmpError.refusal(`the scratch image cannot be made: ${made.error}`);
    return;
  }
}
