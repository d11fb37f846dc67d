import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { BlockdError } from '../../errors.js';
import { formatOf } from '../../images/storage-daemon/arguments.js';
import { formatDevices } from '../../status/device-table.js';
import type { DiskReport } from '../../status/disks/device-status.js';
import { addQuery, answerOf, DISK, deviceOf, diskOf, print, type QueryOptions } from '../queries/query.js';

/** How long the drive may take for what it was told, in milliseconds; and how often it is looked at. */
const DONE_MS = 10_000;
const LOOK_MS = 100;

const DRIVE = `a cdrom drive: ${DISK}`;

const EJECT_HELP = `
Examples:
  xen-blockd eject web1:xvdd
  xen-blockd eject web1:xvdd --timeout 60           its storage is slow to let go
`;

/** `xen-blockd eject`. */
export function addEject(program: Command): void {
  addQuery(program, 'eject', 'take the medium out of a cdrom drive')
    .argument('<disk>', DRIVE)
    .addHelpText('after', EJECT_HELP)
    .action(async (disk: string, options: QueryOptions) => {
      const device = await deviceOf(options, disk);
      await answerOf(options, { command: 'eject', args: { device } });
      await untilHas(options, device, { target: '' });
    });
}

const INSERT_HELP = `
What was in the drive is taken out. A medium that cannot be opened leaves the drive empty, and the exit code is 1; the
daemon tries it again until there is another one.

Examples:
  xen-blockd insert web1:xvdd /images/install.iso
  xen-blockd insert web1:xvdd /images/install.qcow2 --format qcow2
`;

/** `xen-blockd insert`. */
export function addInsert(program: Command): void {
  addQuery(program, 'insert', 'put a medium into a cdrom drive')
    .argument('<disk>', DRIVE)
    .argument('<image>', 'a file, by its whole path')
    .option('--format <format>', 'of the image; raw by default, never probed')
    .addHelpText('after', INSERT_HELP)
    .action(async (disk: string, filename: string, options: QueryOptions & { format?: string }) => {
      const device = await deviceOf(options, disk);
      const args = { device, filename, format: options.format };
      await answerOf(options, { command: 'blockdev-change-medium', args });
      const format = options.format === undefined ? undefined : formatOf(options.format);
      await untilHas(options, device, { target: filename, format });
    });
}

interface Medium {
  /** Empty for none. */
  readonly target: string;
  readonly format?: string | undefined;
}

/** Prints the drive when it has that medium, or none if it is empty. Error: ERR_IMAGE, it has not, and why. */
async function untilHas(options: QueryOptions, device: string, medium: Medium): Promise<void> {
  const end = performance.now() + (options.timeout === undefined ? DONE_MS : options.timeout * 1000);
  let drive = await diskOf(options, device);
  while (!has(drive, medium)) {
    if (performance.now() > end) {
      throw new BlockdError('ERR_TIMEOUT', 'change medium', `${notYet(drive, medium)}; see xen-blockd show ${device}`);
    }
    await sleep(LOOK_MS);
    drive = await diskOf(options, device);
  }
  print(options, [drive], formatDevices);
}

/** What the drive waits for, in words. */
function notYet({ device, target, image }: DiskReport, medium: Medium): string {
  if (target !== medium.target || image !== undefined)
    return `${device} has not changed its medium yet; its storage may hang`;
  return `${device} is empty: ${target} has no bytes, or is still being opened`;
}

/** Error: ERR_IMAGE, it cannot be loaded. */
function has({ device, target, format, image, mediumTrouble }: DiskReport, medium: Medium): boolean {
  if (target !== medium.target) return false;
  // The same file may be another medium.
  if (medium.format !== undefined && format !== medium.format) return false;
  if (mediumTrouble !== undefined) {
    throw new BlockdError('ERR_IMAGE', 'insert', `${device} is empty: ${mediumTrouble}; it is tried again`);
  }
  return (image === undefined) === (medium.target === '');
}
