import { resolve } from 'node:path';
import type { Command } from 'commander';
import { BlockdError } from '../../errors.js';
import { addQuery, answerOf, DISK, deviceOf, print, type QueryOptions } from '../queries/query.js';
import { JobWatch } from './jobs.js';
import { parseSize } from './size.js';

const HELP = `
What the image has in its layers is written into the base, the lowest snapshot by default, while the guest goes on. Then the base's
file gets the image's name: nothing that names the disk has to change, and the layers between them are of no use any more. The
snapshot that the base was is gone with that. With --top another layer than the image is written into the base, and left out.
Ctrl-C leaves the job to go on, and the next call goes on watching it; --cancel ends it, and the disk stays as it was.

Examples:
  xen-blockd commit web1:xvda                                        all snapshots become one image again
  xen-blockd commit web1:xvda --base /images/web1-monday.qcow2       those of later
  xen-blockd commit web1:xvda --top /images/web1-tuesday.qcow2 --base /images/web1-monday.qcow2 && rm /images/web1-tuesday.qcow2
  xen-blockd commit web1:xvda --speed 50M                            at most so much in a second
`;

/** The last requests have to end, and the image to be opened anew. */
const LONG_MS = 120_000;

interface CommitOptions extends QueryOptions {
  readonly base?: string;
  readonly top?: string;
  readonly speed?: string;
  readonly wait: boolean;
  readonly cancel?: boolean;
}

/** `xen-blockd commit`. */
export function addCommit(program: Command): void {
  addQuery(program, 'commit', 'write what a qcow2 image has in its layers into one of its snapshots')
    .argument('<disk>', DISK)
    .option('--base <file>', 'the layer that is written; the lowest by default')
    .option('--top <file>', 'the layer from which on it is written; the image itself by default')
    .option('--speed <bytes>', 'in a second, as 50M; no limit by default')
    .option('--no-wait', 'only begin; a call without it completes')
    .option('--cancel', 'end the job that runs')
    .addHelpText('after', HELP)
    .action(commit);
}

async function commit(disk: string, options: CommitOptions): Promise<void> {
  const device = await deviceOf(options, disk);
  if (options.cancel) {
    await answerOf(options, { command: 'block-job-cancel', args: { device, force: true } });
    print(options, { device, cancelled: true }, () => `${device} is not committed any further\n`);
    return;
  }
  const [base, top] = [options.base, options.top].map((file) => file && resolve(file));
  const speed = options.speed === undefined ? 0 : parseSize(options.speed).bytes;
  await using watch = await JobWatch.open(options, device);
  // One that was left to go on is watched again.
  if (!watch.wasRunning) {
    await answerOf(options, { command: 'block-commit', args: { device, base, top, speed }, answerMs: LONG_MS });
  }
  if (!options.wait) {
    print(options, { device, committed: false }, () => `${device} is being committed\n`);
    return;
  }
  const complete = () => answerOf(options, { command: 'block-job-complete', args: { device }, answerMs: LONG_MS });
  const reason = await watch.end('commit', complete);
  if (reason !== undefined) {
    throw new BlockdError('ERR_IMAGE', 'commit', `${device} is made of its layers still: ${reason}; try again`);
  }
  print(options, { device, committed: true }, () => `${device} is committed\n`);
}
