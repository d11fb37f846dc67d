/**
 * A layer of a disk in use written into one below it: QEMU's commit job in the disk's helper. What is in the layers above stays
 * there meanwhile, so that whatever ends the job leaves a disk with the same data.
 *
 * A layer in the middle is left out of the chain by QEMU, when the base is on stable storage. The image itself is committed in
 * two steps: QEMU copies until the base has all, and goes on with what the guest writes; then, while the guest's requests
 * wait, the base gets the image's name.
 */
import { realpathSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type QmpClient, QmpError } from '@xenpv/qmp';
import type { BlockDevice, ImageExchange } from '@xenpv/xen-block';
import { helperHasEnded } from '../copy/copy-job.js';
import { ReadyEnd } from '../jobs/ready-end.js';
import { flushFile, makeAlike } from '../stable-files.js';
import { EXPORT, nodeOfLayer } from '../storage-daemon/arguments.js';
import { flushNode } from '../storage-daemon/monitor/finalize.js';
import type { JobEnd, OwnedJob } from '../storage-daemon/monitor/owned-jobs.js';
import type { StorageDaemon } from '../storage-daemon/storage-daemon.js';
import { type CommitPlan, type CommitRequest, planCommit } from './plan.js';

export interface CommitTask extends CommitRequest {
  /** The job's. */
  readonly id: string;
  /** Bytes in a second; 0 is no limit. */
  readonly speed: number;
}

export interface CommittedDisk {
  readonly disk: Pick<BlockDevice, 'exchangeImage'>;
  readonly helper: StorageDaemon;
  /** The image, as the disk's toolstack names it. */
  readonly path: string;
}

export class Commit implements OwnedJob, ImageExchange {
  readonly id: string;
  readonly type = 'commit';
  isReady = false;
  readonly #disk: CommittedDisk['disk'];
  readonly #helper: StorageDaemon;
  readonly #path: string;
  readonly #plan: CommitPlan;
  #monitor: QmpClient | undefined;
  readonly #readyEnd = new ReadyEnd();
  #over: Promise<void> | undefined;

  private constructor({ disk, helper, path }: CommittedDisk, id: string, plan: CommitPlan) {
    this.#disk = disk;
    this.#helper = helper;
    this.#path = path;
    this.#plan = plan;
    this.id = id;
  }

  /**
   * Begins a commit; BLOCK_JOB_READY of the helper tells that the image can be completed, BLOCK_JOB_COMPLETED or
   * BLOCK_JOB_CANCELLED its end. Errors: those of planCommit; QmpError, QEMU refuses it, or another job runs; ERR_TOOL, the
   * helper cannot have the base to write. Then nothing is left of it.
   */
  static async start(committed: CommittedDisk, { id, speed, ...request }: CommitTask): Promise<void> {
    const { helper } = committed;
    const commit = new Commit(committed, id, planCommit(await helper.layers(), request));
    helper.jobs.add(commit);
    try {
      await commit.#begin(speed);
    } catch (error) {
      await commit.#end();
      throw error;
    }
  }

  async #begin(speed: number): Promise<void> {
    const { top, base, name } = this.#plan;
    if (this.#isActive) await makeAlike(this.#path, this.#plan.file, 'the base');
    await this.#helper.letWrite(this.#isActive ? [base] : top === 1 ? [base] : [top - 1, base]);
    const monitor = await this.#helper.monitor();
    this.#monitor = monitor;
    void monitor.closed.then(() => this.abandon());
    await monitor.execute('block-commit', {
      ...{ 'job-id': this.id, device: EXPORT, 'top-node': nodeOfLayer(top), 'base-node': nodeOfLayer(base) },
      ...{ 'backing-file': name, speed, 'on-error': 'report' },
      // See settle. QEMU 7.2 keeps the disk drained while a job that was ready waits for its end, and hangs now and then.
      'auto-finalize': this.#isActive,
    });
  }

  get #isActive(): boolean {
    return this.#plan.top === 0;
  }

  /** What relies on the base from now on must find all of it. */
  async settle(): Promise<void> {
    // QEMU has flushed it for a job that was ready.
    if (this.#isActive) return;
    if (this.#monitor) await flushNode(this.#monitor, this.#helper.socket, nodeOfLayer(this.#plan.base));
  }

  async ended(end: JobEnd): Promise<string | undefined> {
    this.#readyEnd.tell(end);
    let reason = await this.#readyEnd.failure();
    const { overlay } = this.#plan;
    if (overlay !== undefined) {
      reason = await flushFile(overlay).then(
        () => undefined,
        (error: Error) => error.message,
      );
    }
    await this.#end();
    return reason;
  }

  /** The chain is what it was, or what it is to be. */
  async abandon(): Promise<void> {
    this.#readyEnd.tell(undefined);
    this.#helper.letWriteNoMore();
    if (this.#over) return this.#over;
    // Who completes it ends the helper, and does not wait for himself.
    this.#over = Promise.resolve();
    this.#helper.jobs.remove(this);
  }

  /**
   * The base has the image's name when this resolves, and the disk goes on with it. Errors: QmpError, it is not ready; that of
   * the exchange, and the job goes on, or the disk goes on with the image as it was.
   */
  async complete(): Promise<void> {
    if (!this.isReady || this.#readyEnd.isWanted) {
      throw QmpError.refusal(`The active block job '${this.id}' cannot be completed`);
    }
    await this.#readyEnd.complete(this.#disk, this);
  }

  async prepare({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    if (!this.#monitor || this.#over) throw helperHasEnded();
    await this.#readyEnd.of(this.#monitor, this.id, signal);
  }

  /** What was the base is the image. The layers between them are of no use any more. */
  async replace(): Promise<undefined> {
    const image = realpathSync(this.#path);
    // Who has flushed it may have been killed before it was closed.
    await flushFile(this.#plan.file);
    await rename(this.#plan.file, image);
    await flushFile(dirname(image));
    if (dirname(this.#plan.file) !== dirname(image)) await flushFile(dirname(this.#plan.file));
  }

  /** Both files have all data: whichever has the image's name by now, the disk can go on with it. */
  async undo(): Promise<void> {}

  #end(): Promise<void> {
    this.#over ??= this.#tidy();
    return this.#over;
  }

  /** The helper that has written the base has it read-only again. */
  async #tidy(): Promise<void> {
    try {
      if (this.#isActive) await this.#helper.letWrite([]).catch(() => {});
      else await this.#helper.renew().catch(() => {});
    } finally {
      this.#helper.letWriteNoMore();
      this.#helper.jobs.remove(this);
    }
  }
}
