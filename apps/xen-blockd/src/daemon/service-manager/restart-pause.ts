import type { Logger } from 'pino';
import { StopSignal } from '../stop-signal.js';

const RESTART_PAUSE_MS = 2000;

/**
 * Waits before a process ends that could not start, or until a signal comes: a service manager starts it again at once,
 * as it does a killed one that guests wait for, and would do so again and again. Without one it resolves at once.
 */
export async function pauseBeforeRestart(logger: Logger): Promise<void> {
  if (!process.env.NOTIFY_SOCKET) return;
  using stop = new StopSignal();
  logger.warn({ milliseconds: RESTART_PAUSE_MS }, 'not serving; waiting before the service manager starts it again');
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, RESTART_PAUSE_MS);
  });
  await Promise.race([over, stop.wait()]);
  clearTimeout(timer);
}
