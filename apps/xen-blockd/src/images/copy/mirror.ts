/**
 * A copy of a disk in use that follows it: QEMU's mirror job in the disk's helper. When it is ready it has all, and gets what the
 * guest writes; then it is ended as a copy of that instant, or completed: the disk goes on with it.
 */
import type { QmpClient } from '@xenpv/qmp';
import { QmpError } from '@xenpv/qmp';
import type { ImageExchange, NamedImage } from '@xenpv/xen-block';
import { ReadyEnd } from '../jobs/ready-end.js';
import { TARGET } from '../storage-daemon/adoption/left-targets.js';
import { EXPORT } from '../storage-daemon/arguments.js';
import type { JobEnd } from '../storage-daemon/monitor/owned-jobs.js';
import { type CopiedDisk, CopyJob, helperHasEnded, type OpenTarget } from './copy-job.js';

export interface MirrorTask {
  /** The job's. */
  readonly id: string;
  readonly sync: 'full' | 'top';
  /** Bytes in a second; 0 is no limit. */
  readonly speed?: number | undefined;
  /** Whether a guest's write waits for its copy. */
  readonly 'copy-mode'?: 'background' | 'write-blocking' | undefined;
}

/** What the disk has when it is completed. */
export interface NewImage {
  /** Where whoever serves the disk next finds it: the copy, from when this resolves. Resolves with what that says. */
  adopt(): Promise<NamedImage>;
  /** The image that it was. */
  giveBack(): Promise<void>;
}

export class Mirror extends CopyJob implements ImageExchange {
  readonly type = 'mirror';
  isReady = false;
  readonly #task: Omit<MirrorTask, 'id'>;
  readonly #image: NewImage;
  readonly #readyEnd = new ReadyEnd();

  private constructor(disk: CopiedDisk, { id, ...task }: MirrorTask, image: NewImage) {
    super(disk, id);
    this.#task = task;
    this.#image = image;
  }

  /**
   * Begins to copy; BLOCK_JOB_READY of the helper tells that the copy follows the disk, BLOCK_JOB_COMPLETED or
   * BLOCK_JOB_CANCELLED the end. Errors: QmpError, QEMU refuses it, or another job runs; what `open` rejects with. Then nothing
   * is left of it.
   */
  static start(disk: CopiedDisk, task: MirrorTask, target: { open: OpenTarget; image: NewImage }): Promise<void> {
    return new Mirror(disk, task, target.image).begin(target.open);
  }

  protected async startJob(monitor: QmpClient): Promise<void> {
    await checkSizes(monitor);
    await monitor.execute('blockdev-mirror', {
      ...{ 'job-id': this.id, device: EXPORT, target: TARGET, ...this.#task },
      // It ends without waiting for us: QEMU 7.2 keeps the disk drained meanwhile, and hangs now and then when it is told to go on.
      ...{ 'on-source-error': 'report', 'on-target-error': 'report' },
    });
  }

  /** QEMU has done that, on the connection that has written, for a job that was ready. */
  protected async flushTarget(): Promise<void> {
    if (!this.isReady) throw new Error('it has not copied all');
  }

  override async ended(end: JobEnd): Promise<string | undefined> {
    const reason = await super.ended(end);
    this.#readyEnd.tell(end);
    return reason ?? this.#readyEnd.failure();
  }

  override abandon(): Promise<void> {
    this.#readyEnd.tell(undefined);
    return super.abandon();
  }

  /** The disk has the copy when this resolves. Errors: QmpError, it is not ready; that of the exchange. */
  async complete(): Promise<void> {
    if (!this.isReady || this.#readyEnd.isWanted) {
      throw QmpError.refusal(`The active block job '${this.id}' cannot be completed`);
    }
    await this.#readyEnd.complete(this.disk, this);
  }

  async prepare({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    if (!this.monitor || this.isOver) throw helperHasEnded();
    // Nobody has the target any more when this resolves.
    const cancel = () => this.cancel();
    signal.addEventListener('abort', cancel, { once: true });
    await this.#readyEnd.of(this.monitor, this.id, signal).finally(() => signal.removeEventListener('abort', cancel));
    // The copy may not have got its name.
    await this.settle();
  }

  replace(): Promise<NamedImage> {
    return this.#image.adopt();
  }

  undo(): Promise<void> {
    return this.#image.giveBack();
  }
}

interface NodeWithSize {
  readonly 'node-name': string;
  readonly image: { readonly 'virtual-size': number };
}

/** QEMU does not: the disk is to go on with the target. Error: QmpError. */
async function checkSizes(monitor: QmpClient): Promise<void> {
  const nodes = (await monitor.execute('query-named-block-nodes', { flat: true })) as readonly NodeWithSize[];
  const [disk, target] = [EXPORT, TARGET].map(
    (name) => nodes.find((node) => node['node-name'] === name)?.image['virtual-size'],
  );
  if (disk === target) return;
  throw QmpError.refusal(`the target has another size than the disk: ${target} bytes, not ${disk}`);
}
