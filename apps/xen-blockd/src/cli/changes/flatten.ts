import type { Command } from 'commander';
import { BlockdError } from '../../errors.js';
import { addQuery, answerOf, DISK, deviceOf, print, type QueryOptions } from '../queries/query.js';
import { JobWatch } from './jobs.js';
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

interface FlattenOptions extends QueryOptions {
  readonly speed?: string;
  readonly wait: boolean;
  readonly cancel?: boolean;
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
  const device = await deviceOf(options, disk);
  if (options.cancel) {
    await answerOf(options, { command: 'block-job-cancel', args: { device } });
    print(options, { device, cancelled: true }, () => `${device} is not flattened any further\n`);
    return;
  }
  const speed = options.speed === undefined ? 0 : parseSize(options.speed).bytes;
  await using watch = await JobWatch.open(options, device);
  // One that was left to go on is watched again.
  if (!watch.wasRunning) await answerOf(options, { command: 'block-stream', args: { device, speed } });
  const reason = options.wait ? await watch.end('flatten') : undefined;
  if (reason !== undefined) {
    throw new BlockdError('ERR_IMAGE', 'flatten', `${device} still needs its snapshots: ${reason}; try again`);
  }
  print(options, { device, flattened: options.wait }, () =>
    options.wait ? `${device} needs its snapshots no more\n` : `${device} is being flattened\n`,
  );
}
