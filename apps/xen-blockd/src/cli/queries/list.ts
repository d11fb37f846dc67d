import type { Command } from 'commander';
import { formatAllStatistics, formatDevices } from '../../status/device-table.js';
import { addFilters, chosen, type Filters } from './filters.js';
import { addQuery, type DiskFormat, disksOf, print, type QueryOptions, seconds } from './query.js';

interface ListArguments extends QueryOptions, Filters {}

const ALL = { command: 'x-query-disks' };

const LIST_HELP = `
One that is not served has the reason in its line.

Examples:
  xen-blockd list --held                   what keeps guests waiting
  xen-blockd list --guest web1             the disks of one guest
  xen-blockd list --state waiting          whose guests have not connected
`;

/** `xen-blockd list`. */
export function addList(program: Command): void {
  addFilters(addQuery(program, 'list', 'list the disks that the daemon serves'))
    .addHelpText('after', LIST_HELP)
    .action((options: ListArguments) => listDisks(options, formatDevices));
}

async function listDisks(options: ListArguments, format: DiskFormat): Promise<void> {
  print(options, chosen(await disksOf(options, ALL), options), format);
}

const STATS_HELP = `
p50 and p99: half of the requests, and 99 of 100, were answered in less. Times are from a request's taking to its answer.

Examples:
  xen-blockd stats --guest web1            its disks' counters since they were attached
  xen-blockd stats --watch 5               what was done in the last five seconds, again and again
`;

interface StatsArguments extends ListArguments {
  readonly watch?: number | true;
}

/** Seconds between two looks. */
const WATCH_SECONDS = 1;

/** `xen-blockd stats`. */
export function addStats(program: Command): void {
  addFilters(addQuery(program, 'stats', "print the disks' counters"))
    .option('--watch [seconds]', 'print rates since the last look, every second or so many', seconds)
    .addHelpText('after', STATS_HELP)
    .action(async (options: StatsArguments) => {
      const { watch } = options;
      if (watch === undefined) return listDisks(options, formatAllStatistics);
      const { watchDisks } = await import('../live/watch.js');
      await watchDisks(options, watch === true ? WATCH_SECONDS : watch);
    });
}
