/**
 * The end of a block job. QEMU changes the image's header last, and does not see to it that what the header relies on is on
 * stable storage: a helper that is killed just then would leave an image without its data. So jobs wait here until it is.
 */
import { openNbdImage } from '@xenpv/blockdev';
import type { QmpClient, QmpEvent } from '@xenpv/qmp';
import { flushAndClose } from '../../flush-and-close.js';
import { EXPORT } from '../arguments.js';
import type { OwnedJobs } from './owned-jobs.js';

interface Job {
  readonly id: string;
  readonly type: string;
  readonly status: string;
}

/** Whether an event tells that a job waits for its end. */
export function endsSoon({ event, data }: QmpEvent): boolean {
  return event === 'JOB_STATUS_CHANGE' && data?.status === 'pending';
}

/** Ends the jobs that wait for it, once all that they have written is on stable storage; cancels them if it cannot be. */
export async function finalizeJobs(monitor: QmpClient, socket: string, owned: OwnedJobs): Promise<void> {
  const jobs = (await monitor.execute('query-jobs')) as Job[];
  const pending = jobs.filter(({ status }) => status === 'pending');
  await Promise.all(pending.map((job) => finalize(monitor, socket, job, owned)));
}

async function finalize(monitor: QmpClient, socket: string, { id, type }: Job, owned: OwnedJobs): Promise<void> {
  const settled = owned.get(id)?.settle() ?? (type === 'backup' ? Promise.reject() : flushExport(socket));
  const isSettled = await settled.then(
    () => true,
    () => false,
  );
  await monitor.execute(isSettled ? 'job-finalize' : 'job-cancel', { id });
}

/** Flushes any of a helper's nodes, as `flushExport` does the image. Errors: QmpError; as openNbdImage. */
export async function flushNode(monitor: QmpClient, socket: string, node: string): Promise<void> {
  const added = { type: 'nbd', id: node, 'node-name': node, name: node, writable: false };
  await monitor.execute('block-export-add', added);
  try {
    await flushExport(socket, node);
  } finally {
    await monitor.execute('block-export-del', { id: node, mode: 'hard' }).catch(() => {});
  }
}

/** On a connection of its own: what the image's other flushes have to tell its guest stays untold. */
export async function flushExport(socket: string, exportName = EXPORT): Promise<void> {
  await flushAndClose(await openNbdImage(socket, { exportName, readOnly: exportName !== EXPORT, reconnect: 0 }));
}
