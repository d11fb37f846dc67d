import type { Command } from 'commander';
import { BlockdError } from '../../errors.js';
import { formatDevices } from '../../status/device-table.js';
import type { DiskReport } from '../../status/disks/device-status.js';
import { formatBytes } from '../../status/format.js';
import { addQuery, answerOf, DISK, diskOf, print, type QueryOptions } from '../queries/query.js';
import { parseSize } from './size.js';

const HELP = `
The guest sees the new size at once; the file system in it is the guest's to make larger. A smaller size loses the end of
the image, and has to be said twice, with --shrink: make the file system smaller first.

Examples:
  xen-blockd resize web1:xvda 20G          so large in all
  xen-blockd resize web1:xvda +5G          larger by that
  xen-blockd resize web1:xvda 10G --shrink
`;

/** `xen-blockd resize`. */
export function addResize(program: Command): void {
  addQuery(program, 'resize', "give a disk's image another size, and tell its guest")
    .argument('<disk>', DISK)
    .argument('<size>', 'as 10G, 20480M, bytes without a unit, or +5G for so much more')
    .option('--shrink', 'it may become smaller: what is behind the new end is lost')
    .addHelpText('after', HELP)
    .action(async (disk: string, size: string, options: QueryOptions & { shrink?: boolean }) => {
      const asked = parseSize(size);
      const before = await diskOf(options, disk);
      const bytes = asked.more ? sizeOf(before) + asked.bytes : asked.bytes;
      if (before.size !== undefined && bytes < before.size && !options.shrink) throw smaller(before.size, bytes);
      await answerOf(options, { command: 'block_resize', args: { device: before.device, size: bytes } });
      print(options, [await diskOf(options, before.device)], formatDevices);
    });
}

/** Error: ERR_USAGE, there is nothing that could have more. */
function sizeOf({ device, size }: DiskReport): number {
  if (size !== undefined) return size;
  throw new BlockdError('ERR_USAGE', 'resize', `${device} has no medium, which could become larger`);
}

function smaller(from: number, to: number): BlockdError {
  const sizes = `from ${formatBytes(from)} (${from} bytes) to ${formatBytes(to)} (${to} bytes)`;
  const message = `the image would shrink ${sizes}, and lose its end; if that is meant, say so with --shrink`;
  return new BlockdError('ERR_USAGE', 'resize', message);
}
