import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BlockdError } from '../../errors.js';
import { prepareSocketPath } from '../../unix-socket.js';

const SOCKET = 'nbd';
const MONITOR = 'monitor';
const PID_FILE = 'pid';
const UNFLUSHED = 'unflushed';
const IMAGE = 'image';

/** A device's name, then what is served; notes beside the folder have its name and a word more. */
const DEVICE_NAME = /^((\w+-\d+-\d+)-[0-9a-f]{8})(\.[a-z-]+)?$/;

/** Owner's process and when that process began, in the kernel's ticks: together they are of one process only. */
const NAME = /^xen-blockd-(\d+)-(\d+)-\w{6}$/;

/** The folders with a device's name that this process uses. */
const inUse = new Set<string>();

/** What a helper serves. */
export interface ServedImage {
  readonly path: string;
  readonly format: string;
}

/**
 * A folder of one storage helper, which only this user can look into. Its name tells whose it is: this process's alone,
 * or a device's, so that the next process finds it.
 */
export class HelperDirectory {
  readonly path: string;
  /** Where writes that are not flushed are kept for the next process, or undefined if that would not find them. */
  readonly unflushed: string | undefined;
  readonly #base: string | undefined;

  private constructor(path: string, base: string | undefined, whose: 'process' | 'device') {
    this.path = path;
    this.unflushed = whose === 'device' ? join(path, UNFLUSHED) : undefined;
    this.#base = base;
  }

  /** That of a device and what it serves, as `deviceFolder` names it; undefined if this process uses it. Error: ERR_SOCKET. */
  static tryNamed(base: string, name: string): HelperDirectory | undefined {
    const path = join(base, name);
    if (inUse.has(path)) return undefined;
    try {
      ensurePrivate(base, 'with its parents');
      ensurePrivate(path, 'alone');
    } catch (cause) {
      throw unusable(path, cause);
    }
    inUse.add(path);
    return new HelperDirectory(path, base, 'device');
  }

  /** Whether this process uses it. */
  static isUsed(base: string, name: string): boolean {
    return inUse.has(join(base, name));
  }

  /** Whether a folder's name is that of one of a process alone. */
  static isOfProcess(name: string): boolean {
    return NAME.test(name);
  }

  /** The files with a helper's number in folders of devices that this process does not use. */
  static leftIn(base: string): string[] {
    const left = HelperDirectory.devicesIn(base).filter(({ name }) => !HelperDirectory.isUsed(base, name));
    return left.map(({ name }) => HelperDirectory.filesIn(base, name).pidFile);
  }

  /** What a folder holds that this process does not use. */
  static filesIn(base: string, name: string): { readonly pidFile: string; readonly unflushed: string } {
    return { pidFile: join(base, name, PID_FILE), unflushed: join(base, name, UNFLUSHED) };
  }

  /** What is written back to where writes were kept; undefined if that was not noted. */
  static imageIn(base: string, name: string): ServedImage | undefined {
    try {
      const { path, format } = JSON.parse(readFileSync(join(base, name, IMAGE), 'utf8'));
      return typeof path === 'string' && typeof format === 'string' ? { path, format } : undefined;
    } catch {
      return undefined;
    }
  }

  /** The folders of devices below `base`, and those that are gone but for what is noted beside them. */
  static devicesIn(base: string): { readonly name: string; readonly device: string }[] {
    const devices = new Map<string, string>();
    for (const found of namesIn(base)) {
      const [, name, device, note] = DEVICE_NAME.exec(found) ?? [];
      if (name === undefined || !isOurs(join(base, found), note === undefined ? 'folder' : 'file')) continue;
      devices.set(name, device);
    }
    return [...devices].map(([name, device]) => ({ name, device }));
  }

  /** Below `base`, which is made, or below the system's folder for temporary files. Error: ERR_SOCKET. */
  static make(base: string | undefined): HelperDirectory {
    const prefix = `xen-blockd-${process.pid}-${startTime(process.pid) ?? 0}-`;
    try {
      if (base !== undefined) ensurePrivate(base, 'with its parents');
      return new HelperDirectory(mkdtempSync(join(base ?? tmpdir(), prefix)), base, 'process');
    } catch (cause) {
      throw unusable(base ?? tmpdir(), cause);
    }
  }

  get socket(): string {
    return join(this.path, SOCKET);
  }

  get monitor(): string {
    return join(this.path, MONITOR);
  }

  /** Is there when a helper is ready. */
  get pidFile(): string {
    return join(this.path, PID_FILE);
  }

  /** Notes for the next process where the writes belong that are kept. */
  note(image: ServedImage): void {
    if (this.unflushed !== undefined) writeFileSync(join(this.path, IMAGE), JSON.stringify(image), { mode: 0o600 });
  }

  /** Nothing of an earlier helper is left in it, and it is there, whoever tidied up. Error: ERR_SOCKET. */
  clear(): void {
    try {
      if (this.#base !== undefined) ensurePrivate(this.#base, 'with its parents');
      ensurePrivate(this.path, 'alone');
      this.#removeFiles();
    } catch (cause) {
      throw unusable(this.path, cause);
    }
  }

  /** Ends its use. Unflushed writes that are left stay for the next process, unless `what` says otherwise. */
  remove(what: 'with all' | 'with what is over' = 'with what is over'): void {
    if (this.unflushed === undefined || what === 'with all') rmSync(this.path, { recursive: true, force: true });
    else if (lstatSync(this.path, { throwIfNoEntry: false })) {
      this.#removeFiles();
      if (!existsSync(this.unflushed)) rmSync(join(this.path, IMAGE), { force: true });
      try {
        rmdirSync(this.path);
      } catch {
        // There are unflushed writes.
      }
    }
    this.leave();
  }

  /** Ends its use: all that is in it stays. */
  leave(): void {
    inUse.delete(this.path);
  }

  #removeFiles(): void {
    for (const file of [this.socket, this.monitor, this.pidFile]) rmSync(file, { force: true });
  }
}

/** The name of the folder for a device and what it serves. */
export function deviceFolder(device: string, served: readonly unknown[]): string {
  return `${device}-${createHash('sha256').update(JSON.stringify(served)).digest('hex').slice(0, 8)}`;
}

/**
 * Removes the folders of processes that are gone, but for those in which somebody still listens. Returns the paths of
 * those that cannot be removed, with the errors.
 */
export async function removeLeftDirectories(base: string | undefined): Promise<{ path: string; error: Error }[]> {
  const failed: { path: string; error: Error }[] = [];
  if (startTime(process.pid) === undefined) return failed;
  for (const name of namesIn(base ?? tmpdir())) {
    const [, pid, began] = NAME.exec(name) ?? [];
    if (pid === undefined || startTime(Number(pid)) === began) continue;
    const path = join(base ?? tmpdir(), name);
    try {
      if (isOurs(path, 'folder') && !(await isServed(path))) rmSync(path, { recursive: true, force: true });
    } catch (error) {
      failed.push({ path, error: error as Error });
    }
  }
  return failed;
}

async function isServed(path: string): Promise<boolean> {
  try {
    await prepareSocketPath(join(path, SOCKET));
    return false;
  } catch {
    return true;
  }
}

/** Folders for temporary files have other users' folders too. */
function isOurs(path: string, what: 'folder' | 'file'): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found?.uid !== process.geteuid?.()) return false;
  return (what === 'folder' ? found?.isDirectory() : found?.isFile()) === true;
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** When a process began, or undefined if there is none, or no /proc. */
function startTime(pid: number): string | undefined {
  try {
    // The name, in brackets, may have spaces and brackets in it; the start is the 22nd field, the state the third.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

/** Makes a folder, if it is not there, that is this user's own and nobody else's to change. */
function ensurePrivate(path: string, how: 'alone' | 'with its parents'): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) {
    mkdirSync(path, { recursive: how === 'with its parents', mode: 0o700 });
    return;
  }
  const advice = 'move it away, or name another helper-directory';
  if (!found.isDirectory()) throw new Error(`${path}: it is not a directory; ${advice}`);
  if (found.uid !== process.geteuid?.()) throw new Error(`${path}: it belongs to user ${found.uid}; ${advice}`);
  if ((found.mode & 0o022) !== 0) throw new Error(`${path}: other users may write to it; chmod 700 it, or ${advice}`);
}

function unusable(path: string, cause: unknown): BlockdError {
  const message = `no folder for a storage helper: ${(cause as Error).message}`;
  return new BlockdError('ERR_SOCKET', 'start storage helper', message, { path, cause });
}
