import { setTimeout as sleep } from 'node:timers/promises';
import type { QmpClient } from '@xenpv/qmp';
import { BlockdError } from '../../../errors.js';
import { commandLine } from '../../../proc.js';
import { isSameTask, PROGRAM, type StorageDaemonTask } from '../arguments.js';
import type { HelperDirectory } from '../helper-directory.js';
import type { Helper, ProcessEnd } from '../helper-process.js';
import { renewExport } from '../monitor/exports.js';
import { jobsIn } from '../monitor/jobs.js';
import { type MonitorOptions, openMonitor } from '../monitor/monitor.js';
import type { StorageDaemonTimes } from '../times.js';
import { cancelLeftBackups } from './left-targets.js';
import { endHelper, endingHelpers, goneHelper, hasOpen, helpersWith } from './processes.js';

/** A killed process that waits for its storage in the kernel ends when the storage answers. */
const KILL_MS = 5000;
const POLL_MS = 20;

export interface AdoptionOptions {
  readonly directory: HelperDirectory;
  /** What this process would start one for. */
  readonly task: StorageDaemonTask;
  readonly times: StorageDaemonTimes;
  /** A helper is killed, and another one started. */
  readonly onUnusable: (pid: number, reason: string) => void;
  readonly onEvent: MonitorOptions['onEvent'];
  readonly signal: AbortSignal;
}

/** A helper that an earlier process has started. */
export class AdoptedHelper implements Helper {
  readonly pid: number;
  readonly ended: Promise<ProcessEnd>;
  readonly #pidFile: string;
  readonly #monitor: QmpClient;
  #end: ProcessEnd | undefined;

  constructor(pid: number, pidFile: string, monitor: QmpClient) {
    this.pid = pid;
    this.#pidFile = pidFile;
    this.#monitor = monitor;
    this.ended = monitor.closed
      .then(() => goneHelper(pidFile, pid))
      .then(() => {
        this.#end = { code: null, signal: null, stderr: '', adopted: true };
        return this.#end;
      });
  }

  get end(): ProcessEnd | undefined {
    return this.#end;
  }

  get monitor(): QmpClient {
    return this.#monitor;
  }

  async stop(graceMs: number): Promise<boolean> {
    const gone = await endHelper(this.#pidFile, this.pid, graceMs, KILL_MS);
    this.#monitor.close();
    if (gone) await this.ended;
    return gone;
  }
}

/**
 * Takes over the helper of an earlier process, if it lives and does what is wanted of it: nothing of that process's
 * requests is in flight in it then. One that does something else, or commits, is asked to end; one that does not answer is killed,
 * and gone when this resolves, with undefined. Errors: ERR_IMAGE, the image's path is another file by now; ERR_TIMEOUT,
 * one that was killed does not end; the signal's reason, and it is left as it is.
 */
export async function adoptHelper(options: AdoptionOptions): Promise<AdoptedHelper | undefined> {
  const { directory, task, times, onEvent, signal } = options;
  const { path } = task;
  const [pid, ...others] = helpersWith(directory.pidFile);
  if (pid === undefined) return undefined;
  if (others.length > 0 || !isSameTask(commandLine(pid).slice(1), task)) {
    await endHelpers(directory, path, times.stopMs);
    return undefined;
  }
  if (!hasOpen(pid, path)) throw moved(path, pid);
  let monitor: QmpClient | undefined;
  try {
    monitor = await openMonitor(directory.monitor, { answerMs: times.answerMs, onEvent, signal });
    if (await isCommitting(monitor)) {
      monitor.close();
      await endHelpers(directory, path, times.stopMs);
      return undefined;
    }
    // QEMU has no second writer beside one.
    await cancelLeftBackups(monitor, times.quietMs);
    await renewExport(monitor, { task, quietMs: times.quietMs, signal });
    return new AdoptedHelper(pid, directory.pidFile, monitor);
  } catch (error) {
    monitor?.close();
    signal.throwIfAborted();
    options.onUnusable(pid, `its monitor: ${(error as Error).message}`);
    await endHelpers(directory, path, 0);
    return undefined;
  }
}

/** One that writes backing files is not to have them writable any longer, and nobody sees to the end of its job. */
async function isCommitting(monitor: QmpClient): Promise<boolean> {
  return (await jobsIn(monitor)).some(({ type }) => type === 'commit');
}

/** Ends what an earlier process has left in a folder. Error: ERR_TIMEOUT, one was killed and does not end. */
export async function endHelpers(directory: HelperDirectory, path: string, graceMs: number): Promise<void> {
  const pids = helpersWith(directory.pidFile);
  const gone = await Promise.all(pids.map((pid) => endHelper(directory.pidFile, pid, graceMs, KILL_MS)));
  const stuck = pids.find((_, i) => !gone[i]);
  if (stuck !== undefined) throw doesNotEnd(path, stuck);
}

/**
 * Resolves when no helper that was killed can write the image any more. For an image that is not locked: of any other QEMU
 * refuses a second writer until then. Errors: ERR_TIMEOUT, one waits for its storage; the signal's reason.
 */
export async function killedHelpersGone(path: string, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + KILL_MS;
  for (let [pid] = endingHelpers(path); pid !== undefined; [pid] = endingHelpers(path)) {
    if (performance.now() > deadline) throw doesNotEnd(path, pid);
    await sleep(POLL_MS, undefined, { signal });
  }
}

function doesNotEnd(path: string, pid: number): BlockdError {
  const message = `${path}: ${PROGRAM} of an earlier process (pid ${pid}) was killed and does not end`;
  return new BlockdError('ERR_TIMEOUT', 'open image', message, { path });
}

function moved(path: string, pid: number): BlockdError {
  const advice = `put that one back, or detach the disk; it is open in ${PROGRAM} (pid ${pid})`;
  const message = `${path}: it is not the file that this disk has written to before; ${advice}`;
  return new BlockdError('ERR_IMAGE', 'open image', message, { path });
}
