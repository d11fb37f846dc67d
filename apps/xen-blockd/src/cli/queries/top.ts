import type { Command } from 'commander';
import { addFilters, type Filters } from './filters.js';
import { addAsking, type QueryOptions, seconds } from './query.js';

const HELP = `
Keys: i, b, l and n put the disks in order by IOPS, bandwidth, latency or name; / filters by a part of a name, guest, vdev or
image; arrows choose a disk and Enter shows all of it, as show does; q goes back, and quits. Columns give way on narrow
terminals. Elsewhere than on a terminal use stats --watch.

Examples:
  xen-blockd top
  xen-blockd top --guest web1 --interval 0.5        one guest's disks, twice a second
  xen-blockd top --held                             those that are not served
`;

/** Seconds between two looks. */
const SECONDS = 2;

interface TopArguments extends QueryOptions, Filters {
  readonly interval?: number;
}

/** `xen-blockd top`. */
export function addTop(program: Command): void {
  addFilters(addAsking(program, 'top', 'show what all disks do, on the whole terminal, until q is pressed'))
    .option('--interval <seconds>', `between two looks; ${SECONDS} by default`, seconds)
    .addHelpText('after', HELP)
    .action(async ({ interval = SECONDS, ...options }: TopArguments) => {
      const { runTop } = await import('../live/top/top.js');
      const signal = await runTop(options, interval);
      // The terminal is as it was: who has started us sees what ended us.
      if (signal) process.kill(process.pid, signal);
    });
}
