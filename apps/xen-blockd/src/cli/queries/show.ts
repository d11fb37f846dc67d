import type { Command } from 'commander';
import { formatDisk } from '../../status/disks/disk-report.js';
import { addQuery, DISK, diskOf, print, type QueryOptions } from './query.js';

const HELP = `
That is its guest, its state and why, the command that goes on with it, its image, what its frontend uses, its limits, and its requests.

Examples:
  xen-blockd show web1:xvda
  xen-blockd show /images/web1.img                  whichever disk has this image
  xen-blockd show web1:xvda --json | jq .statistics
`;

/** `xen-blockd show`. */
export function addShow(program: Command): void {
  addQuery(program, 'show', 'tell everything about one disk, and what to do if it is not served')
    .argument('<disk>', DISK)
    .addHelpText('after', HELP)
    .action(async (disk: string, options: QueryOptions) => {
      print(options, await diskOf(options, disk), (report, look) => formatDisk(report, look));
    });
}
