import { setTimeout as sleep } from 'node:timers/promises';
import { QmpClient, type QmpEvent } from '@xenpv/qmp';
import type { Command } from 'commander';
import { BlockdError } from '../../errors.js';
import { formatBytes } from '../../status/format.js';
import { addQuery, answerOf, DISK, diskOf, print, type QueryOptions } from '../queries/query.js';
import { parseSize } from './size.js';

const HELP = `
What the image has in its backing files is copied into it, while the guest goes on. When this ends with exit code 0 they are needed
no more. Ctrl-C leaves the job to go on; --cancel ends it: what was copied stays, and the next time has less to do.

Examples:
  xen-blockd flatten web1:xvda
  xen-blockd flatten web1:xvda --speed 50M     at most so much in a second
  xen-blockd flatten web1:xvda --no-wait       only begins
  xen-blockd flatten web1:xvda --cancel
`;

const POLL_MS = 250;
const ENDS: readonly string[] = ['BLOCK_JOB_COMPLETED', 'BLOCK_JOB_CANCELLED'];

interface FlattenOptions extends QueryOptions {
  readonly speed?: string;
  readonly wait: boolean;
  readonly cancel?: boolean;
}

interface Job {
  readonly device: string;
  readonly offset: number;
  readonly len: number;
}

/** `xen-blockd flatten`. */
export function addFlatten(program: Command): void {
  addQuery(program, 'flatten', 'copy into a qcow2 image all that it has in its snapshots')
    .argument('<disk>', DISK)
    .option('--speed <bytes>', 'in a second, as 50M; no limit by default')
    .option('--no-wait', 'do not wait for the end')
    .option('--cancel', 'end the job that runs')
    .addHelpText('after', HELP)
    .action(flatten);
}

async function flatten(disk: string, options: FlattenOptions): Promise<void> {
  const { device } = await diskOf(options, disk);
  if (options.cancel) {
    await answerOf(options, { command: 'block-job-cancel', args: { device } });
    return;
  }
  const speed = options.speed === undefined ? 0 : parseSize(options.speed).bytes;
  const ended: QmpEvent[] = [];
  const client = await QmpClient.connect(options.socket, {
    onEvent: (event) => {
      if (ENDS.includes(event.event) && event.data?.device === device) ended.push(event);
    },
  });
  try {
    // One that was left to go on is watched again.
    const running = await jobOf(client, device);
    if (!running) await answerOf(options, { command: 'block-stream', args: { device, speed } });
    if (options.wait) await watch(client, device, ended);
  } finally {
    client.close();
  }
  print(options, { device, flattened: options.wait }, () =>
    options.wait ? `${device} needs its snapshots no more\n` : `${device} is being flattened\n`,
  );
}

/** Errors: ERR_IMAGE, the job has failed, was cancelled, or its helper has ended; ERR_SOCKET, the daemon has. */
async function watch(client: QmpClient, device: string, ended: readonly QmpEvent[]): Promise<void> {
  const isShown = process.stderr.isTTY === true;
  try {
    // The event comes before the job is known no more.
    for (let job = await jobOf(client, device); job && ended.length === 0; job = await jobOf(client, device)) {
      if (isShown) process.stderr.write(`\r${progressOf(job)}`);
      await sleep(POLL_MS);
    }
  } catch (cause) {
    const message = `${device}: the daemon has ended: ${(cause as Error).message}; see xen-blockd list, and try again`;
    throw new BlockdError('ERR_SOCKET', 'flatten', message, { cause });
  } finally {
    if (isShown) process.stderr.write('\n');
  }
  const [end] = ended;
  if (end?.event === 'BLOCK_JOB_COMPLETED' && end.data?.error === undefined) return;
  const reason = end === undefined ? 'its storage helper has ended' : (end.data?.error ?? 'the job was cancelled');
  throw new BlockdError('ERR_IMAGE', 'flatten', `${device} still needs its snapshots: ${reason}; try again`);
}

async function jobOf(client: QmpClient, device: string): Promise<Job | undefined> {
  const jobs = (await client.execute('query-block-jobs')) as readonly Job[];
  return jobs.find((job) => job.device === device);
}

function progressOf({ offset, len }: Job): string {
  const percent = len === 0 ? 100 : Math.floor((100 * offset) / len);
  return `${percent} %, ${formatBytes(offset)} of ${formatBytes(len)}`.padEnd(40);
}
