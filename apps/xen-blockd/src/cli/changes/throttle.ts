import { parseRateLimits, RATE_LIMITS_FORM } from '@xenpv/xen-block';
import type { Command } from 'commander';
import { BlockdError } from '../../errors.js';
import { formatLimits } from '../../status/device-table.js';
import { addQuery, ask, DISK, type QueryOptions } from '../queries/query.js';

const THROTTLE_HELP = `
Limits are ${RATE_LIMITS_FORM}.
Bursts are what may be used at once after a quiet time. Requests beyond the limits wait in the guest's ring.

Examples:
  xen-blockd throttle qdisk-5-51712                              what is in force
  xen-blockd throttle qdisk-5-51712 iops=500,bandwidth=20M       this disk
  xen-blockd throttle qdisk-5-51712 iops=2000 --guest            all disks of its guest together
  xen-blockd throttle qdisk-5-51712 none                         no limit, whatever the configuration says
  xen-blockd throttle qdisk-5-51712 default                      what the configuration says

What is said is kept in the key limits (guest-limits) of the disk's backend directory: over restarts of the daemon, and
until the disk is detached. For longer see disk-limits and guest-limits of the configuration.
`;

/** `xen-blockd throttle`. */
export function addThrottle(program: Command): void {
  addQuery(program, 'throttle', 'limit what a disk, or all disks of its guest together, may do in a second')
    .argument('<disk>', DISK)
    .argument('[limits]', 'as iops=500,bandwidth=20M; none; or default; without it they are only shown')
    .option('--guest', 'all disks of its guest together')
    .addHelpText('after', THROTTLE_HELP)
    .action((disk: string, limits: string | undefined, options: QueryOptions & { guest?: boolean }) => {
      if (limits !== undefined && limits !== 'default' && !parseRateLimits(limits)) {
        throw new BlockdError('ERR_USAGE', 'throttle', `limits ${limits}: expected ${RATE_LIMITS_FORM}, or default`);
      }
      return ask(options, { command: 'x-throttle', args: { disk, limits, guest: options.guest } }, formatLimits);
    });
}
