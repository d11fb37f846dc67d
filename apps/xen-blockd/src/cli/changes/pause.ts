import type { Command } from 'commander';
import { BlockdError } from '../../errors.js';
import { formatDevices } from '../../status/device-table.js';
import { integer } from '../option-parsers.js';
import { addQuery, ask, DISK, disksOf, print, type QueryOptions } from '../queries/query.js';

const PAUSE_HELP = `
Requests of the guest wait in its ring; those that were taken are answered first, so that nothing reads or writes the image any
more when this ends with exit code 0. What is in the image then is what a power cut would leave. The pause outlasts the daemon,
and the guest's restart: only unpause ends it, and the end of the disk. Guests have time limits of their own.

Examples:
  xen-blockd pause web1:xvda && cp --reflink=always /images/a.img /images/copy.img; xen-blockd unpause web1:xvda
`;

/** Seconds for requests that were taken; and more for the answer, in milliseconds. */
const WAIT = 10;
const MORE_MS = 50_000;

/** `xen-blockd pause`. */
export function addPause(program: Command): void {
  addQuery(program, 'pause', "take no more requests from a disk's guest, until unpause")
    .argument('<disk>', DISK)
    .option('--wait <seconds>', 'for requests that were taken', integer([0, 3600]), WAIT)
    .addHelpText('after', PAUSE_HELP)
    .action(async (disk: string, options: QueryOptions & { wait: number }) => {
      const waitMs = 1000 * options.wait;
      const args = { disk, 'wait-ms': waitMs };
      const disks = await disksOf(options, { command: 'x-pause', args, answerMs: waitMs + MORE_MS });
      print(options, disks, formatDevices);
      for (const { device, statistics } of disks) {
        if (statistics.inFlight === 0) continue;
        const message = `${device} takes nothing more, but its storage has not answered ${statistics.inFlight} requests yet`;
        throw new BlockdError('ERR_TIMEOUT', 'pause', `${message}; see xen-blockd show ${device}`);
      }
    });
}

const UNPAUSE_HELP = `
Examples:
  xen-blockd unpause web1:xvda
  xen-blockd list --state paused                    which disks wait for it
`;

/** `xen-blockd unpause`. */
export function addUnpause(program: Command): void {
  addQuery(program, 'unpause', 'take requests again from the guest of a disk that is paused')
    .argument('<disk>', DISK)
    .addHelpText('after', UNPAUSE_HELP)
    .action((disk: string, options: QueryOptions) =>
      ask(options, { command: 'x-unpause', args: { disk } }, formatDevices),
    );
}
