/**
 * Backups and mirrors of a process that is gone. Nobody would see to their ends, so that they are cancelled; what they have
 * written is no copy. Their targets' helpers have folders of their own in the folder of the disk's.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type QmpClient, QmpError } from '@xenpv/qmp';
import { HelperDirectory } from '../helper-directory.js';
import { endExports, STATUS_EXPORT } from '../monitor/exports.js';
import { jobsIn } from '../monitor/jobs.js';
import { endHelper, helpersWith } from './processes.js';

/** The node of what a disk is backed up to. */
export const TARGET = 'target';
/** The node of the image in TARGET, where a backup is pulled. */
export const SCRATCH = 'scratch';
/** Those that use others before them. */
const NODES: readonly string[] = [SCRATCH, TARGET];

/** Beside the folder: what a helper could change must not say what is removed. */
const NOTE = '.backup-target';
/** QEMU's types of jobs that write a target. */
const COPYING: readonly string[] = ['backup', 'mirror'];
const POLL_MS = 10;
const NEVER = new AbortController().signal;
const KILL_MS = 5000;

/** Notes which file is no backup yet, or is about to be made, for the next process; `undefined`: there is none. */
export function noteUnfinished(folder: string, path: string | undefined): void {
  const note = folder + NOTE;
  if (path === undefined) rmSync(note, { force: true });
  else writeFileSync(note, path, { mode: 0o600 });
}

/** Has a helper that was taken over back up nothing any more. Rejects if its monitor does not answer, or not in time. */
export async function cancelLeftBackups(monitor: QmpClient, quietMs: number): Promise<void> {
  const deadline = performance.now() + quietMs;
  const backups = async () => (await jobsIn(monitor)).filter(({ type }) => COPYING.includes(type));
  if ((await backups()).length === 0 && (await forgetTargets(monitor))) return;
  // What is read of a backup that ends is of no one instant.
  await endExports(monitor, (id) => id.startsWith(STATUS_EXPORT), { quietMs, signal: NEVER });
  for (const { device } of await backups()) await monitor.execute('block-job-cancel', { device, force: true });
  // A job has its nodes until a little after its end.
  while ((await backups()).length > 0 || !(await forgetTargets(monitor))) {
    if (performance.now() > deadline) throw new Error(`a backup does not end within ${quietMs / 1000} seconds`);
    await sleep(POLL_MS);
  }
}

/** Resolves with whether the nodes of a target are gone. Rejects if the monitor does not answer. */
export async function forgetTargets(monitor: QmpClient): Promise<boolean> {
  const found = (await monitor.execute('query-named-block-nodes', { flat: true })) as { 'node-name': string }[];
  const names = found.map((node) => node['node-name']);
  try {
    for (const name of NODES) if (names.includes(name)) await monitor.execute('blockdev-del', { 'node-name': name });
    return true;
  } catch (error) {
    if (error instanceof QmpError && error.code === 'ERR_COMMAND') return false;
    throw error;
  }
}

/** Ends the helpers of targets that are left in the folder of a disk's helper, and removes what they have written. */
export async function endLeftTargets(folder: string): Promise<void> {
  for (const name of namesIn(folder).filter(HelperDirectory.isOfProcess)) {
    const path = join(folder, name);
    const { pidFile } = HelperDirectory.filesIn(folder, name);
    await Promise.all(helpersWith(pidFile).map((pid) => endHelper(pidFile, pid, 0, KILL_MS)));
    rmSync(path, { recursive: true, force: true });
  }
  try {
    rmSync(readFileSync(folder + NOTE, 'utf8'), { force: true });
  } catch {
    // There is no such note, or its folder is not there at the moment.
  }
  noteUnfinished(folder, undefined);
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
