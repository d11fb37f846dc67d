import { readFileSync, type Stats, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { commandLine, namesIn, processIds } from '../../../proc.js';
import { PROGRAM } from '../arguments.js';

const POLL_MS = 5;
/** The kernel keeps so many characters of a program's name. */
const NAME = PROGRAM.slice(0, 15);

/**
 * The processes that were started with `--pidfile` and this file, whoever started them. A folder's name is the only one
 * of its kind, so that no other program, and no process that has a number anew, is ever taken for a helper.
 */
export function helpersWith(pidFile: string): number[] {
  const written = readNumber(pidFile);
  if (written !== undefined && isHelperWith(pidFile, written)) return [written];
  return processIds().filter((pid) => isHelperWith(pidFile, pid));
}

/** False too for one that has ended and was not waited for by its parent: it holds nothing any more. */
function isHelperWith(pidFile: string, pid: number): boolean {
  const words = commandLine(pid);
  const at = words.indexOf('--pidfile');
  return at >= 0 && words[at + 1] === pidFile;
}

/** Whether two paths lead to one file or device now. */
export function isSameFile(one: string, other: string): boolean {
  if (one === other) return true;
  const [a, b] = [tryStat(one), tryStat(other)];
  return a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino;
}

/**
 * The command lines of other processes that have a file open and go on: not of those that were killed, which are without one
 * while they end. As far as /proc tells.
 */
export function usersOf(path: string): (readonly string[])[] {
  return processIds()
    .filter((pid) => pid !== process.pid)
    .filter((pid) => namesIn(`/proc/${pid}/fd`).some((fd) => isSameFile(`/proc/${pid}/fd/${fd}`, path)))
    .map(commandLine)
    .filter((words) => words.length > 0);
}

/** Whether the process has the file open that is at `path` now. True where that cannot be found out. */
export function hasOpen(pid: number, path: string): boolean {
  const wanted = statSync(path, { throwIfNoEntry: false });
  const folder = `/proc/${pid}/fd`;
  return !wanted || namesIn(folder).length === 0 || isAmong(folder, wanted);
}

/**
 * Helpers that were killed, and of which a thread waits in the kernel for its storage with the file open that is at `path` now:
 * what it does there may still happen. Such a process has its name, and no command line any more.
 */
export function endingHelpers(path: string): number[] {
  const wanted = statSync(path, { throwIfNoEntry: false });
  if (!wanted) return [];
  return processIds().filter((pid) => {
    if (commandLine(pid).length > 0 || nameOf(pid) !== NAME) return false;
    const tasks = `/proc/${pid}/task`;
    return namesIn(tasks).some((tid) => isAmong(`${tasks}/${tid}/fd`, wanted));
  });
}

/** Whether a file is one of those that a folder of /proc has. */
function isAmong(folder: string, wanted: Stats): boolean {
  return namesIn(folder).some((name) => {
    const found = tryStat(`${folder}/${name}`);
    if (!found) return false;
    return wanted.isBlockDevice()
      ? found.isBlockDevice() && found.rdev === wanted.rdev
      : found.dev === wanted.dev && found.ino === wanted.ino;
  });
}

/** Of the process, as the kernel has it. */
function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'latin1').trimEnd();
  } catch {
    return '';
  }
}

/** Asks it to end, which makes it write back what it holds, and kills it after `graceMs`. Resolves with whether it is gone. */
export async function endHelper(pidFile: string, pid: number, graceMs: number, killMs: number): Promise<boolean> {
  if (graceMs > 0) {
    signalHelper(pidFile, pid, 'SIGTERM');
    if (await isGoneWithin(pidFile, pid, graceMs)) return true;
  }
  signalHelper(pidFile, pid, 'SIGKILL');
  return isGoneWithin(pidFile, pid, killMs);
}

/** Resolves when it is gone. Rejects with the signal's reason. */
export async function goneHelper(pidFile: string, pid: number, signal?: AbortSignal): Promise<void> {
  while (isHelperWith(pidFile, pid)) await sleep(POLL_MS, undefined, { signal });
}

async function isGoneWithin(pidFile: string, pid: number, ms: number): Promise<boolean> {
  const deadline = performance.now() + ms;
  while (isHelperWith(pidFile, pid)) {
    if (performance.now() > deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}

function signalHelper(pidFile: string, pid: number, signal: NodeJS.Signals): void {
  if (!isHelperWith(pidFile, pid)) return;
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}

function readNumber(path: string): number | undefined {
  try {
    const number = Number.parseInt(readFileSync(path, 'latin1'), 10);
    return number > 0 ? number : undefined;
  } catch {
    return undefined;
  }
}

function tryStat(path: string) {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}
