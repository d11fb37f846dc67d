import type { QmpClient } from '@xenpv/qmp';
import { EXPORT, type StorageDaemonTask } from '../arguments.js';
import type { Helper } from '../helper-process.js';
import type { StorageDaemonTimes } from '../times.js';
import { renewExport } from './exports.js';

export interface ReopenOptions {
  readonly helper: Helper | undefined;
  readonly monitor: QmpClient;
  readonly task: StorageDaemonTask;
  readonly times: StorageDaemonTimes;
  /** As the helper's first start had it. */
  readonly node: object;
  readonly signal: AbortSignal;
}

/**
 * Has a helper close its image and open it again: of one on the network it asks for the size only then. A helper that
 * cannot is ended, and the next one does. Error: what the monitor says.
 */
export async function reopenInHelper({ helper, monitor, task, times, node, signal }: ReopenOptions): Promise<void> {
  signal.throwIfAborted();
  const { quietMs, stopMs } = times;
  try {
    await renewExport(monitor, { task, quietMs, signal }, async () => {
      await monitor.execute('blockdev-del', { 'node-name': EXPORT });
      await monitor.execute('blockdev-add', { ...node });
    });
  } catch (error) {
    await helper?.stop(stopMs);
    throw error;
  }
}
