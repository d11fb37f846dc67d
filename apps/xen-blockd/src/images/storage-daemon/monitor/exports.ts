/** The export of a helper's image, by its monitor. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { QmpClient } from '@xenpv/qmp';
import { EXPORT, EXPORT_ID, type StorageDaemonTask } from '../arguments.js';

const POLL_MS = 5;

export interface RenewalOptions {
  readonly task: Pick<StorageDaemonTask, 'readOnly'>;
  /** Milliseconds for the requests of its clients to end. */
  readonly quietMs: number;
  readonly signal: AbortSignal;
}

/**
 * Ends the export, runs `meanwhile`, and makes it anew: clients find it as the image is then. It ends when all requests of its clients
 * have ended, so that none of them follows later. Errors: QmpError, Error if requests are in flight for too long, the signal's
 * reason; what `meanwhile` rejects with, and it is exported all the same.
 */
export async function renewExport(
  monitor: QmpClient,
  options: RenewalOptions,
  meanwhile?: () => Promise<unknown>,
): Promise<void> {
  await endExport(monitor, options);
  try {
    await meanwhile?.();
  } finally {
    const writable = !options.task.readOnly;
    const added = { type: 'nbd', id: EXPORT_ID, 'node-name': EXPORT, name: EXPORT, writable };
    await monitor.execute('block-export-add', added);
  }
}

async function endExport(monitor: QmpClient, { quietMs, signal }: RenewalOptions): Promise<void> {
  const deadline = performance.now() + quietMs;
  const found = await exportsOf(monitor);
  const old = found.find(({ id }) => id === EXPORT_ID);
  if (old && !old['shutting-down']) await monitor.execute('block-export-del', { id: EXPORT_ID, mode: 'hard' });
  while ((await exportsOf(monitor)).some(({ id }) => id === EXPORT_ID)) {
    if (performance.now() > deadline) throw new Error(`requests are in flight after ${quietMs / 1000} seconds`);
    await sleep(POLL_MS, undefined, { signal });
  }
}

async function exportsOf(monitor: QmpClient): Promise<readonly { id: string; 'shutting-down': boolean }[]> {
  return (await monitor.execute('query-block-exports')) as { id: string; 'shutting-down': boolean }[];
}
