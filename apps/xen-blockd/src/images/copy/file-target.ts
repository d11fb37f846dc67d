import { existsSync, readlinkSync, realpathSync, statfsSync, statSync } from 'node:fs';
import { type FileHandle, link, open, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errorCode } from '../../errors.js';
import { findTool, runTool } from '../../tools.js';
import { isBelow, outsideOf, refusal } from '../refusal.js';
import { noteUnfinished } from '../storage-daemon/adoption/left-targets.js';
import { EXPORT, fileName } from '../storage-daemon/arguments.js';
import type { StorageDaemonEvent } from '../storage-daemon/events.js';
import { flushExport } from '../storage-daemon/monitor/finalize.js';
import { StorageDaemon } from '../storage-daemon/storage-daemon.js';
import type { CopyTarget, TargetPolicy } from './target.js';

const TOOL = 'qemu-img';

export interface FileTargetOptions {
  /** A whole path. */
  readonly path: string;
  /** `raw` or one of IMAGE_FORMATS. */
  readonly format: string;
  /** `create`: it is not there yet, and is there when all is in it. `existing`: it is written to where it is. */
  readonly mode: 'create' | 'existing';
  /** Bytes of the disk. */
  readonly size: number;
  /** Bytes that are there to be written to it, or about that. */
  readonly bytes: number;
  /** The file that is backed up. */
  readonly source: string;
  readonly policy: TargetPolicy;
  /** Where its helper has its folder. */
  readonly folder: string;
  /** Bytes that a file which is there already is made long, at least. */
  readonly room?: number | undefined;
}

interface OpenedFile {
  readonly daemon: StorageDaemon;
  readonly folder: string;
  readonly made: NewFile | undefined;
  readonly lost: Promise<string>;
}

/** A file or block device, which a storage helper of its own writes. */
export class FileTarget implements CopyTarget {
  readonly exportName = EXPORT;
  readonly #daemon: StorageDaemon;
  readonly #folder: string;
  readonly #made: NewFile | undefined;
  readonly lost: Promise<string>;

  private constructor({ daemon, folder, made, lost }: OpenedFile) {
    this.#daemon = daemon;
    this.#folder = folder;
    this.#made = made;
    this.lost = lost;
  }

  /** Errors: ERR_IMAGE, it cannot be a target, says why; those of StorageDaemon.open. Nothing is left then. */
  static async open(options: FileTargetOptions): Promise<FileTarget> {
    const { path, format, mode, policy, source, folder } = options;
    if (!path.startsWith('/')) throw refusal(path, 'expected a whole path, as /backup/web1.qcow2');
    if (existsSync(path) && realpathSync(path) === realpathSync(source))
      throw refusal(path, "it is the disk's own image");
    const made = mode === 'create' ? await NewFile.make(options) : undefined;
    let lose = (_: string) => {};
    const lost = new Promise<string>((resolve) => {
      lose = resolve;
    });
    const onEvent = (event: StorageDaemonEvent) => {
      if (event.kind === 'ended') lose(`the storage helper of ${path} has ended: ${event.reason}`);
    };
    const daemon = new StorageDaemon({
      ...{ path: made?.path ?? path, format, readOnly: false, directory: folder },
      ...{ chain: policy, user: policy.helperUser, onEvent },
    });
    const target = new FileTarget({ daemon, folder, made, lost });
    try {
      // Its locks: from here on nobody else uses it.
      await daemon.open(async () => {});
      if (options.room !== undefined && hasLess(path, options.room)) await daemon.resize(options.room);
      await flushExport(daemon.socket);
      return target;
    } catch (error) {
      await target.close('failed');
      throw error;
    }
  }

  get socket(): string {
    return this.#daemon.socket;
  }

  async complete(): Promise<void> {
    await this.#made?.finish();
  }

  async close(how: 'copied' | 'failed'): Promise<void> {
    await this.#daemon.close().catch(() => {});
    if (how === 'failed') await this.#made?.remove();
    if (this.#made) noteUnfinished(this.#folder, undefined);
  }
}

/** A block device has what it has. */
function hasLess(path: string, bytes: number): boolean {
  const found = statSync(path);
  return found.isFile() && found.size < bytes;
}

/** A file under another name until it is whole. */
class NewFile {
  /** Of the moment. */
  readonly path: string;
  readonly #final: string;
  /** Of the folder. */
  readonly #directory: string;
  #isFinished = false;

  private constructor(directory: string, final: string) {
    this.path = join(directory, `.${basename(final)}.unfinished`);
    this.#final = join(directory, basename(final));
    this.#directory = directory;
  }

  static async make(options: FileTargetOptions): Promise<NewFile> {
    const { path, policy, bytes, folder } = options;
    const parent = dirname(path);
    if (!existsSync(parent)) throw refusal(path, 'its folder is not there');
    const directory = realpathSync(parent);
    const made = new NewFile(directory, path);
    made.#checkPlace(made.#final, path, policy);
    if (existsSync(made.#final)) throw refusal(path, 'it is there already; choose another name');
    const { bavail, bsize } = statfsSync(directory);
    if (bavail * bsize < bytes) {
      // A guest's write that has to wait for its copy fails when that does.
      throw refusal(path, `its file system has ${bavail * bsize} bytes free, and about ${bytes} are needed`);
    }
    if (existsSync(made.path)) throw made.#busy(path);
    // Before it is there: a process that is killed from now on leaves no file that nobody knows of.
    noteUnfinished(folder, made.path);
    try {
      await made.#create(options);
    } catch (error) {
      noteUnfinished(folder, undefined);
      throw error;
    }
    return made;
  }

  /** It has its name, as far as a power cut can take it away too. Error: ERR_IMAGE, the name is taken. */
  async finish(): Promise<void> {
    try {
      await link(this.path, this.#final);
    } catch (error) {
      throw refusal(this.#final, `it cannot have its name (${errorCode(error)}): is it there by now?`, error);
    }
    this.#isFinished = true;
    await rm(this.path, { force: true });
    const directory = await open(this.#directory, 'r');
    await directory.sync().finally(() => directory.close());
  }

  /** A finished file is whole: it stays only if the job has ended well. */
  async remove(): Promise<void> {
    await rm(this.path, { force: true }).catch(() => {});
    if (this.#isFinished) await rm(this.#final, { force: true }).catch(() => {});
  }

  #checkPlace(found: string, path: string, { directories }: TargetPolicy): void {
    if (!directories || directories.some((each) => existsSync(each) && isBelow(found, realpathSync(each)))) return;
    throw refusal(path, outsideOf(directories));
  }

  #busy(path: string, cause?: unknown): Error {
    return refusal(
      path,
      `${this.path} is there: another backup to it runs, or one was cut off; remove that file`,
      cause,
    );
  }

  /** By its descriptor: whatever becomes of its name meanwhile, nothing else is written to. */
  async #create(options: FileTargetOptions): Promise<void> {
    const { path } = options;
    let file: FileHandle;
    try {
      file = await open(this.path, 'wx', 0o600);
    } catch (error) {
      const code = errorCode(error);
      throw code === 'EEXIST' ? this.#busy(path, error) : refusal(path, `it cannot be made (${code})`, error);
    }
    try {
      this.#checkPlace(readlinkSync(`/proc/self/fd/${file.fd}`), path, options.policy);
      await this.#fill(file, options);
    } catch (error) {
      await this.remove();
      throw error;
    } finally {
      await file.close();
    }
  }

  async #fill(file: FileHandle, { path, format, size }: FileTargetOptions): Promise<void> {
    if (format === 'raw') return file.truncate(size);
    if (!findTool(TOOL)) throw refusal(path, `format ${format} needs ${TOOL}; Debian: apt-get install qemu-utils`);
    // Its own descriptor: what this process has open only root with all rights may open, which a service is not.
    const args = ['create', '-q', '-f', format, fileName(0), String(size)];
    const { code, stderr } = await runTool(TOOL, args, { files: [file.fd] });
    if (code !== 0) throw refusal(path, `it cannot be made: ${stderr.trim() || `exit code ${code}`}`);
  }
}
