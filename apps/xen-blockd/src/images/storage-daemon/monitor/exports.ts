/** The export of a helper's image, by its monitor. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type QmpClient, QmpError } from '@xenpv/qmp';
import { EXPORT, EXPORT_ID, type StorageDaemonTask } from '../arguments.js';

const POLL_MS = 5;
/** What the ids of exports begin with that only tell of the image: see status-export.ts. */
export const STATUS_EXPORT = 'status-';

export interface RenewalOptions {
  readonly task: Pick<StorageDaemonTask, 'readOnly'>;
  /** Milliseconds for the requests of its clients to end. */
  readonly quietMs: number;
  readonly signal: AbortSignal;
}

/**
 * Ends the export, and those that tell of the image, runs `meanwhile`, and makes it anew: clients find it as the image is then. It ends when all requests of its clients
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

async function endExport(monitor: QmpClient, options: RenewalOptions): Promise<void> {
  await endExports(monitor, (id) => id === EXPORT_ID || id.startsWith(STATUS_EXPORT), options);
}

/** Ends some exports, and resolves when they are gone. Errors: QmpError; as renewExport. */
export async function endExports(
  monitor: QmpClient,
  isMeant: (id: string) => boolean,
  { quietMs, signal }: Pick<RenewalOptions, 'quietMs' | 'signal'>,
): Promise<void> {
  const deadline = performance.now() + quietMs;
  const found = async () => (await exportsOf(monitor)).filter(({ id }) => isMeant(id));
  for (const { id, 'shutting-down': isEnding } of await found()) {
    if (!isEnding) await monitor.execute('block-export-del', { id, mode: 'hard' }).catch(unlessGone);
  }
  while ((await found()).length > 0) {
    if (performance.now() > deadline) throw new Error(`requests are in flight after ${quietMs / 1000} seconds`);
    await sleep(POLL_MS, undefined, { signal });
  }
}

/** Somebody else may have ended it meanwhile; one that is there still is waited for. */
function unlessGone(error: unknown): void {
  if (!(error instanceof QmpError && error.code === 'ERR_COMMAND')) throw error;
}

async function exportsOf(monitor: QmpClient): Promise<readonly { id: string; 'shutting-down': boolean }[]> {
  return (await monitor.execute('query-block-exports')) as { id: string; 'shutting-down': boolean }[];
}
