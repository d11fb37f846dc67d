import { type QmpClient, QmpError } from '@xenpv/qmp';
import { EXPORT, type StorageDaemonTask } from '../arguments.js';
import type { Helper } from '../helper-process.js';
import type { StorageDaemonTimes } from '../times.js';
import { renewExport } from './exports.js';

export interface ResizeOptions {
  readonly helper: Helper | undefined;
  readonly monitor: QmpClient;
  readonly task: StorageDaemonTask;
  readonly times: StorageDaemonTimes;
  readonly bytes: number;
  readonly signal: AbortSignal;
}

/** An image that cannot have the size, and is as it was. */
export class SizeRefused extends Error {}

/**
 * Has a helper make its image that many bytes long, and export it so. Errors: SizeRefused; others, and the image may be of either
 * size then. A helper that does not export it as it is is ended: the next one does.
 */
export async function resizeInHelper({ helper, monitor, task, times, bytes, signal }: ResizeOptions): Promise<void> {
  signal.throwIfAborted();
  const { quietMs, stopMs } = times;
  try {
    // Who exports it lets nobody else resize it.
    await renewExport(monitor, { task, quietMs, signal }, () => resize(monitor, bytes));
  } catch (error) {
    if (!(error instanceof SizeRefused)) await helper?.stop(stopMs);
    throw error;
  }
}

async function resize(monitor: QmpClient, bytes: number): Promise<void> {
  try {
    await monitor.execute('block_resize', { 'node-name': EXPORT, size: bytes });
  } catch (error) {
    const isRefused = error instanceof QmpError && error.code === 'ERR_COMMAND';
    throw isRefused ? new SizeRefused(error.message) : error;
  }
}
