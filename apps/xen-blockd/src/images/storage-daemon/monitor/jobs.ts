/** Block jobs of a helper, by its monitor: QEMU's names and figures. */
import { type QmpClient, QmpError, type QmpEvent } from '@xenpv/qmp';
import { EXPORT } from '../arguments.js';

/** What is left of QEMU's BlockJobInfo for those who ask us. */
export interface BlockJob {
  /** Its id. */
  readonly device: string;
  /** `stream`, `commit`, `backup`. */
  readonly type: string;
  /** `running`, `paused`, `ready`, `pending`, and others. */
  readonly status: string;
  /** Of `len`, in bytes: what is done. */
  readonly offset: number;
  readonly len: number;
}

const ENDS: readonly string[] = ['BLOCK_JOB_COMPLETED', 'BLOCK_JOB_CANCELLED'];
const JOB_EVENTS: readonly string[] = [...ENDS, 'BLOCK_JOB_READY', 'JOB_STATUS_CHANGE'];

/** The id of a job that is only tried, in a transaction that is aborted. Nobody is told of it. */
export const TRIED_JOB = 'x-tried';

export function isJobEvent({ event }: Pick<QmpEvent, 'event'>): boolean {
  return JOB_EVENTS.includes(event);
}

/** Whether it tells how a job ended. */
export function isEndOfJob({ event }: Pick<QmpEvent, 'event'>): boolean {
  return ENDS.includes(event);
}

export async function jobsIn(monitor: QmpClient): Promise<readonly BlockJob[]> {
  return (await monitor.execute('query-block-jobs')) as BlockJob[];
}

export interface StreamOptions {
  readonly id: string;
  /** Bytes in a second; 0 is no limit. */
  readonly speed: number;
}

/** Begins to fetch into the image all that it has of its backing files. Errors: QmpError, it has none, or a job runs. */
export async function startStream(monitor: QmpClient, { id, speed }: StreamOptions): Promise<void> {
  const nodes = (await monitor.execute('query-named-block-nodes', { flat: true })) as NamedNode[];
  const { backing_file: backing } = nodes.find((node) => node['node-name'] === EXPORT) ?? {};
  if (!backing) throw QmpError.refusal('the image has no backing file: there is nothing to fetch');
  await monitor.execute('block-stream', {
    ...{ 'job-id': id, device: EXPORT, speed, 'on-error': 'report' },
    // See finalize.ts.
    'auto-finalize': false,
  });
}

interface NamedNode {
  readonly 'node-name': string;
  /** As its header names it. */
  readonly backing_file?: string;
}
