/**
 * The end of a block job. QEMU changes the image's header last, and does not see to it that what the header relies on is on
 * stable storage: a helper that is killed just then would leave an image without its data. So jobs wait here until it is.
 */
import { allocateMemory, BlockOp, openNbdImage } from '@xenpv/blockdev';
import type { QmpClient, QmpEvent } from '@xenpv/qmp';
import { EXPORT } from '../arguments.js';

interface Job {
  readonly id: string;
  readonly status: string;
}

/** Whether an event tells that a job waits for its end. */
export function endsSoon({ event, data }: QmpEvent): boolean {
  return event === 'JOB_STATUS_CHANGE' && data?.status === 'pending';
}

/** Ends the jobs that wait for it, once all that they have written is on stable storage; cancels them if it cannot be. */
export async function finalizeJobs(monitor: QmpClient, socket: string): Promise<void> {
  const jobs = (await monitor.execute('query-jobs')) as Job[];
  const pending = jobs.filter(({ status }) => status === 'pending');
  if (pending.length === 0) return;
  const isFlushed = await flush(socket).catch(() => false);
  for (const { id } of pending) await monitor.execute(isFlushed ? 'job-finalize' : 'job-cancel', { id });
}

/** On a connection of its own: what the image's other flushes have to tell its guest stays untold. */
async function flush(socket: string): Promise<boolean> {
  const image = await openNbdImage(socket, { exportName: EXPORT, reconnect: 0 });
  try {
    const queue = image.createQueue({ depth: 1, memory: allocateMemory(0) });
    const result = new Promise<number>((resolve) => queue.onComplete((_tags, [first]) => resolve(first)));
    queue.push(BlockOp.flush, 0, 0, 0, new Float64Array(0), 0);
    queue.submit();
    return (await result) === 0;
  } finally {
    await image.close();
  }
}
