/**
 * A snapshot of a qcow2 image in use: its file gets another name, where it is never written to again, and a new layer takes its
 * place. The disk's path stays the same, so that nothing that names it, a guest's configuration above all, has to change.
 */
import { existsSync, realpathSync } from 'node:fs';
import { link, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { ImageExchange } from '@xenpv/xen-block';
import { errorCode } from '../errors.js';
import { findTool, runTool } from '../tools.js';
import { type ChainPolicy, nameInHeader, OUTSIDE_OF_FOLDER } from './chain/chain.js';
import { isBelow, outsideOf, refusal } from './refusal.js';
import { flushFile, makeAlike } from './stable-files.js';
import { noteSnapshot } from './storage-daemon/adoption/left-snapshot.js';

const TOOL = 'qemu-img';
const FORMAT = 'qcow2';

export interface SnapshotTask {
  /** The image, as the disk's toolstack names it. */
  readonly path: string;
  readonly format: string;
  /** Bytes that the guest sees. */
  readonly size: number;
  /** A whole path that is not there: what the image is now is found there from now on. */
  readonly snapshot: string;
  /** Which files images may be. */
  readonly policy: ChainPolicy;
  /** Of the disk's helper; undefined if no other process would find it. */
  readonly folder: string | undefined;
}

export class Snapshot implements ImageExchange {
  readonly #image: string;
  readonly #snapshot: string;
  readonly #layer: string;
  readonly #folder: string | undefined;
  #state: 'prepared' | 'linked' | 'replaced' | 'over' = 'prepared';

  private constructor(image: string, snapshot: string, folder: string | undefined) {
    this.#image = image;
    this.#snapshot = snapshot;
    this.#folder = folder;
    this.#layer = join(dirname(image), `.${basename(image)}.new-layer`);
  }

  /**
   * Makes the new layer, beside the image, which is as it was. Errors: ERR_IMAGE, the image has no snapshots, the name is
   * taken, the configuration does not allow it, or qemu-img is not there.
   */
  static async prepare(task: SnapshotTask): Promise<Snapshot> {
    const { path, format, snapshot } = task;
    if (format !== FORMAT) throw refusal(path, `images of format ${format} have no snapshots here; qcow2 has`);
    if (!findTool(TOOL)) throw refusal(path, `a snapshot needs ${TOOL}; Debian: apt-get install qemu-utils`);
    const image = realpathSync(path);
    if (!(await stat(image)).isFile()) {
      throw refusal(path, 'it is a block device; make its snapshot where it is made, as with lvcreate -s');
    }
    const made = new Snapshot(image, join(realFolder(path, snapshot), basename(snapshot)), task.folder);
    made.#check(task);
    made.#note();
    try {
      await made.#makeLayer(task);
    } catch (error) {
      await made.undo();
      throw error;
    }
    return made;
  }

  /** What was found under the image's name is found under the snapshot's only. The image is closed. */
  async replace(): Promise<undefined> {
    // Who closed it may have been killed before it was flushed.
    await flushFile(this.#image);
    await this.#link();
    this.#state = 'linked';
    await rename(this.#layer, this.#image);
    this.#state = 'replaced';
    await flushFile(dirname(this.#image));
    this.#noteNothing();
  }

  async undo(): Promise<void> {
    if (this.#state === 'over') return;
    if (this.#state === 'replaced') await rename(this.#snapshot, this.#image);
    if (this.#state === 'linked') await rm(this.#snapshot, { force: true });
    // Last, as a process after this one does it.
    await rm(this.#layer, { force: true });
    this.#state = 'over';
    this.#noteNothing();
  }

  /** Whoever follows a process that is killed from now on finds what it has made. */
  #note(): void {
    const [image, layer, snapshot] = [this.#image, this.#layer, this.#snapshot];
    if (this.#folder !== undefined) noteSnapshot(this.#folder, { image, layer, snapshot });
  }

  #noteNothing(): void {
    if (this.#folder !== undefined) noteSnapshot(this.#folder, undefined);
  }

  /** Whether the next start would open it. */
  #check({ path, snapshot, policy }: SnapshotTask): void {
    const { directories, backingFiles } = policy;
    if (existsSync(this.#snapshot)) throw this.#refused('is there already; choose another name');
    if (backingFiles === false) throw refusal(path, 'a snapshot is a backing file, and backing-files is false');
    const allowed = directories ?? [dirname(this.#image)];
    if (allowed.some((directory) => isBelow(this.#snapshot, withoutLinks(directory)))) return;
    throw refusal(path, `the snapshot ${snapshot} ${directories ? outsideOf(directories) : OUTSIDE_OF_FOLDER}`);
  }

  #refused(reason: string, cause?: unknown): Error {
    return refusal(this.#image, `the snapshot ${this.#snapshot} ${reason}`, cause);
  }

  async #link(): Promise<void> {
    try {
      await link(this.#image, this.#snapshot);
    } catch (error) {
      const reasons: Readonly<Record<string, string>> = {
        EEXIST: 'is there already; choose another name',
        EXDEV: 'is on another file system than the image; choose a name beside it',
        ENOENT: 'is in a folder that is not there',
        EPERM: 'is on a file system without hard links',
      };
      const code = errorCode(error) ?? 'EIO';
      throw this.#refused(reasons[code] ?? `cannot be made (${code})`, error);
    }
  }

  async #makeLayer({ path, size }: SnapshotTask): Promise<void> {
    const backing = nameInHeader(this.#snapshot, this.#image);
    await rm(this.#layer, { force: true });
    // Unsafe is only that it does not look into the backing file, which is not to be opened by anybody but a helper.
    const args = ['create', '-q', '-u', '-f', FORMAT, '-F', FORMAT, '-b', backing, this.#layer, String(size)];
    const { code, stderr } = await runTool(TOOL, args);
    if (code !== 0) throw refusal(path, `its new layer cannot be made: ${stderr.trim() || `exit code ${code}`}`);
    await makeAlike(this.#image, this.#layer, 'its new layer');
    await flushFile(this.#layer);
  }
}

/** Where the snapshot is to be; links are followed. */
function realFolder(path: string, snapshot: string): string {
  const folder = dirname(snapshot);
  if (!existsSync(folder)) throw refusal(path, `the snapshot ${snapshot} is in a folder that is not there`);
  return realpathSync(folder);
}

function withoutLinks(directory: string): string {
  return existsSync(directory) ? realpathSync(directory) : directory;
}
