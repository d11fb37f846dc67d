import { setTimeout as sleep } from 'node:timers/promises';
import type { XenBlockBackend } from '@xenpv/xen-block';
import type { Logger } from 'pino';
import { tellServiceManager } from './notify.js';

/** How often it is told in the time after which the service manager ends the process. */
const TIMES = 3;

/** What is to be watched. */
export interface WatchedThreads {
  readonly backend: Pick<XenBlockBackend, 'ping'>;
  readonly logger: Logger;
  /** False where threads wait for storage themselves: one that hangs would be no fault that a restart mends. */
  readonly asksThreads: boolean;
}

/**
 * Tells the service manager that this process works, for as long as every thread that serves disks comes round its event
 * loop (WatchdogSec of the unit). One that is stuck serves none of its guests: the process is ended then, and the next one
 * takes all of them over. Without a watchdog in the environment it does nothing.
 */
export class ServiceWatchdog implements Disposable {
  readonly #end = new AbortController();

  constructor(watched: WatchedThreads) {
    const limitMs = watchdogMs();
    if (limitMs !== undefined) void this.#run(watched, limitMs / TIMES);
  }

  async #run({ backend, logger, asksThreads }: WatchedThreads, intervalMs: number): Promise<void> {
    const { signal } = this.#end;
    const ping = () => (asksThreads ? backend.ping() : new Promise((resolve) => setImmediate(resolve)));
    const isLate = () => {
      const seconds = Math.round(intervalMs / 1000);
      logger.error(
        { seconds },
        'a thread that serves disks does not answer; the service manager ends a process that is stuck',
      );
    };
    while (!signal.aborted) {
      const late = setTimeout(isLate, intervalMs).unref();
      try {
        await ping();
      } catch {
        // What happens to a process with a thread that has ended is decided elsewhere.
        return;
      } finally {
        clearTimeout(late);
      }
      if (signal.aborted) return;
      tellServiceManager('WATCHDOG=1', logger);
      await sleep(intervalMs, undefined, { ref: false, signal }).catch(() => {});
    }
  }

  /** It is told no more. */
  [Symbol.dispose](): void {
    this.#end.abort();
  }
}

/** Of sd_watchdog_enabled(3): the time in the environment, unless it is for another process. */
function watchdogMs(): number | undefined {
  const { WATCHDOG_USEC, WATCHDOG_PID } = process.env;
  const microseconds = Number(WATCHDOG_USEC);
  const isOurs = WATCHDOG_PID === undefined || Number(WATCHDOG_PID) === process.pid;
  return isOurs && microseconds > 0 ? microseconds / 1000 : undefined;
}
