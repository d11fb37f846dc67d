import { type BigIntStats, close, constants, fstat, open } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { sep } from 'node:path';
import { promisify } from 'node:util';
import { BlockDeviceError, openError } from '../errors.js';
import { storageId } from '../locks/storage-id.js';

const openFile = promisify(open);
const closeFile = promisify(close);
const statFile = promisify(fstat) as (fd: number, options: { bigint: true }) => Promise<BigIntStats>;

/** open(2): a descriptor that says which file it is, and neither reads nor writes. Node has no name for it. */
const O_PATH = 0o10000000;
const LINUX = process.platform === 'linux';
/** Looks at a path whose folders change meanwhile. */
const MOST_LOOKS = 5;

/** How a file is pinned. */
export interface PinOptions {
  /** The file must be in or below one of these directories once links are followed; anywhere if undefined. */
  readonly within?: readonly string[] | undefined;
}

/**
 * A regular file or block device that a path named once. Whatever is done to the path afterwards, this is the same file:
 * it is opened, as often as is needed, by its descriptor. Every folder on the way to it is opened by its descriptor too,
 * without following a link, so that no link that is exchanged meanwhile leads out of the directories. openat2(2) with
 * RESOLVE_BENEATH does the same in one system call, where there is one; this way is the same on every kernel and needs no
 * addon. Elsewhere than on Linux the path is all there is.
 */
export class PinnedFile implements AsyncDisposable {
  /** As it was given. */
  readonly path: string;
  /** Only good for {@link reference} and fstat(2). */
  readonly fd: number;
  /** What fstat(2) said when the file was pinned. */
  readonly stats: BigIntStats;
  #closing: Promise<void> | undefined;

  private constructor(path: string, fd: number, stats: BigIntStats) {
    this.path = path;
    this.fd = fd;
    this.stats = stats;
  }

  /**
   * Errors: ERR_IMAGE_OUTSIDE, it is in none of the directories, or its path changes all the time; EISDIR;
   * ERR_IMAGE_TYPE, a socket, a FIFO or the like; an errno.
   */
  static async open(path: string, { within }: PinOptions = {}): Promise<PinnedFile> {
    let fd: number;
    try {
      fd = within ? await openBeneath(path, within) : await openFile(path, pinFlags());
    } catch (error) {
      throw openError(error, 'open', path);
    }
    return PinnedFile.#checked(path, fd);
  }

  /** What this process has open already; `path` is its name in messages. Errors as of `open`. */
  static async ofDescriptor(fd: number, path: string): Promise<PinnedFile> {
    try {
      return await PinnedFile.#checked(path, await openFile(LINUX ? descriptorPath(fd) : path, pinFlags()));
    } catch (error) {
      throw openError(error, 'open', path);
    }
  }

  static async #checked(path: string, fd: number): Promise<PinnedFile> {
    try {
      const stats = await statFile(fd, { bigint: true });
      checkType(path, stats);
      return new PinnedFile(path, fd, stats);
    } catch (error) {
      await closeFile(fd);
      throw error;
    }
  }

  /** Whether it is a block device. */
  get blockDevice(): boolean {
    return this.stats.isBlockDevice();
  }

  /** A path that opens this file, in this process and while it is not closed. */
  get reference(): string {
    return LINUX ? descriptorPath(this.fd) : this.path;
  }

  /** As `identity` of a BlockImage. */
  async identity(): Promise<string> {
    return (await storageId(this.fd)).key;
  }

  /** A descriptor that is the caller's to close. Rejects with an errno of open(2), as a BlockDeviceError. */
  async open(flags: number): Promise<number> {
    try {
      return await openFile(this.reference, flags);
    } catch (error) {
      throw openError(error, 'open', this.path);
    }
  }

  /** What was opened by it stays open. Harmless when repeated. */
  close(): Promise<void> {
    this.#closing ??= closeFile(this.fd);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Opens the file anew that a descriptor of this process has open. */
function descriptorPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** O_NONBLOCK: the other end of a FIFO is not waited for. */
function pinFlags(): number {
  return LINUX ? O_PATH : constants.O_RDONLY | constants.O_NONBLOCK;
}

function checkType(path: string, stats: BigIntStats): void {
  if (stats.isFile() || stats.isBlockDevice()) return;
  const [code, what] = stats.isDirectory()
    ? (['EISDIR', 'is a directory, not an image'] as const)
    : (['ERR_IMAGE_TYPE', 'is neither a regular file nor a block device'] as const);
  throw new BlockDeviceError(code, 'open', `${path} ${what}`, { path });
}

async function openBeneath(path: string, directories: readonly string[]): Promise<number> {
  for (let look = 0; look < MOST_LOOKS; look++) {
    const real = await realpath(path);
    const directory = await directoryOf(real, directories);
    if (directory === undefined) throw outside(path, `is not in one of the directories ${directories.join(', ')}`);
    if (!LINUX) return openFile(real, pinFlags() | constants.O_NOFOLLOW);
    const fd = await walk(directory, real.slice(directory.length).split(sep).filter(Boolean));
    if (fd !== undefined) return fd;
  }
  throw outside(path, 'is not opened: somebody exchanges it, or a folder on the way to it, all the time');
}

/** Of the directories, with their links followed, the one that the path is in. */
async function directoryOf(real: string, directories: readonly string[]): Promise<string | undefined> {
  for (const each of directories) {
    const directory = await realpath(each).catch(() => undefined);
    if (directory === undefined) continue;
    if (real.startsWith(directory.endsWith(sep) ? directory : directory + sep)) return directory;
  }
  return undefined;
}

/** Undefined: what a name on the way stands for is another thing by now. */
async function walk(directory: string, names: readonly string[]): Promise<number | undefined> {
  const { O_DIRECTORY, O_NOFOLLOW } = constants;
  let fd = await openFile(directory, O_PATH | O_DIRECTORY);
  for (const [i, name] of names.entries()) {
    const isLast = i === names.length - 1;
    const next = await openFile(
      `${descriptorPath(fd)}/${name}`,
      O_PATH | O_NOFOLLOW | (isLast ? 0 : O_DIRECTORY),
    ).catch((error: NodeJS.ErrnoException) => error);
    await closeFile(fd);
    if (next instanceof Error) {
      if (next.code === 'ENOTDIR' || next.code === 'ELOOP' || next.code === 'ENOENT') return undefined;
      throw next;
    }
    fd = next;
  }
  // With O_PATH a link itself is opened.
  if (!(await statFile(fd, { bigint: true })).isSymbolicLink()) return fd;
  await closeFile(fd);
  return undefined;
}

function outside(path: string, problem: string): BlockDeviceError {
  return new BlockDeviceError('ERR_IMAGE_OUTSIDE', 'open', `${path} ${problem}`, { path });
}
