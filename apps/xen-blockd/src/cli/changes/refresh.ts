import type { Command } from 'commander';
import { BlockdError } from '../../errors.js';
import { formatDevices } from '../../status/device-table.js';
import { addFilters, chosen, type Filters, isFiltering } from '../queries/filters.js';
import { addQuery, DISK, disksOf, print, type QueryOptions } from '../queries/query.js';

interface RefreshArguments extends QueryOptions, Filters {
  readonly allowShrink?: boolean;
}

const HELP = `
An image that has become smaller is an error, and its guest is not told, unless --allow-shrink is there: the guest loses what was
behind the new end. An image that does not end with a sector is served up to its last whole one.

Examples:
  truncate -s 20G /images/web1.img && xen-blockd refresh web1:xvda
  xen-blockd refresh --guest web1                   all disks of a guest
  xen-blockd refresh web1:xvda --allow-shrink       the image has become smaller, and that is meant
`;

/** `xen-blockd refresh`. */
export function addRefresh(program: Command): void {
  addFilters(addQuery(program, 'refresh', 'look at the sizes of images again, and tell the guests'))
    .argument('[disk]', `only this one: ${DISK}`)
    .option('--allow-shrink', 'the image may have become smaller: the guest loses its end')
    .addHelpText('after', HELP)
    .action(async (disk: string | undefined, options: RefreshArguments) => {
      const { allowShrink } = options;
      if (allowShrink && disk === undefined) {
        throw new BlockdError('ERR_USAGE', 'refresh', '--allow-shrink needs the name of the disk; see xen-blockd list');
      }
      if (disk !== undefined && isFiltering(options)) {
        throw new BlockdError('ERR_USAGE', 'refresh', `disk ${disk}: name a disk, or choose with options; not both`);
      }
      if (isFiltering(options)) return refreshChosen(options);
      const args = { disk, 'allow-shrink': allowShrink };
      print(options, await disksOf(options, { command: 'x-refresh', args }), formatDevices);
    });
}

/** One after the other: each is looked at though one before it fails. Error: ERR_SOCKET, the first failure. */
async function refreshChosen(options: RefreshArguments): Promise<void> {
  const failures: unknown[] = [];
  for (const { device } of chosen(await disksOf(options, { command: 'x-query-disks' }), options)) {
    const looked = disksOf(options, { command: 'x-refresh', args: { disk: device } });
    await looked.catch((error) => failures.push(error));
  }
  print(options, chosen(await disksOf(options, { command: 'x-query-disks' }), options), formatDevices);
  if (failures.length > 0) throw failures[0];
}
