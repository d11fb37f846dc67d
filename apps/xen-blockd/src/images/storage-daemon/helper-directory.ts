import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BlockdError } from '../../errors.js';
import { prepareSocketPath } from '../../unix-socket.js';

const SOCKET = 'nbd';
const PID_FILE = 'pid';

/** Owner's process and when that process began, in the kernel's ticks: together they are of one process only. */
const NAME = /^xen-blockd-(\d+)-(\d+)-\w{6}$/;

/** A folder of one storage helper, which only this user can look into. Its name tells whose it is. */
export class HelperDirectory {
  readonly path: string;
  readonly #base: string | undefined;

  private constructor(path: string, base: string | undefined) {
    this.path = path;
    this.#base = base;
  }

  /** Below `base`, which is made, or below the system's folder for temporary files. Error: ERR_SOCKET. */
  static make(base: string | undefined): HelperDirectory {
    const prefix = `xen-blockd-${process.pid}-${startTime(process.pid) ?? 0}-`;
    try {
      if (base !== undefined) ensurePrivate(base, 'with its parents');
      return new HelperDirectory(mkdtempSync(join(base ?? tmpdir(), prefix)), base);
    } catch (cause) {
      throw unusable(base ?? tmpdir(), cause);
    }
  }

  get socket(): string {
    return join(this.path, SOCKET);
  }

  /** Is there when a helper is ready. */
  get pidFile(): string {
    return join(this.path, PID_FILE);
  }

  /** Nothing of an earlier helper is left in it, and it is there, whoever tidied up. Error: ERR_SOCKET. */
  clear(): void {
    try {
      if (this.#base !== undefined) ensurePrivate(this.#base, 'with its parents');
      ensurePrivate(this.path, 'alone');
      for (const file of [this.socket, this.pidFile]) rmSync(file, { force: true });
    } catch (cause) {
      throw unusable(this.path, cause);
    }
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
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
      if (isOurs(path) && !(await isServed(path))) rmSync(path, { recursive: true, force: true });
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
function isOurs(path: string): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found?.isDirectory() === true && found.uid === process.geteuid?.();
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
