import type { Command } from 'commander';
import { formatDevices } from '../../status/device-table.js';
import { integer } from '../option-parsers.js';
import { addQuery, ask, DISK, type QueryOptions } from '../queries/query.js';

const ATTACH_HELP = `
The disk is written into xenstore as xl writes one, so that any guest may have it, whatever its toolstack is; xl sees it too
where the guest is xl's. It is there until it is detached, or the guest ends. A guest whose driver does not connect in time
keeps the disk, and may connect later; one that the daemon refuses is taken away again. Only dom0 may do this.

Examples:
  xen-blockd attach web1 /images/data.img                     the first free vdev
  xen-blockd attach 5 /images/data.qcow2 --format qcow2 --vdev xvdc --read-only
  xen-blockd attach web1 vg/volume                            a device below /dev
  xen-blockd detach qdisk-5-51744
`;

interface AttachArguments extends QueryOptions {
  readonly format?: string;
  readonly vdev?: string;
  readonly type?: string;
  readonly readOnly?: boolean;
  readonly cdrom?: boolean;
  readonly wait?: number;
}

/** `xen-blockd attach`. */
export function addAttach(program: Command): void {
  addQuery(program, 'attach', 'attach a disk to a guest, whatever its toolstack is')
    .argument('<domain>', "the guest's number or name")
    .argument('<image>', 'a file, a block device, or an NBD server as in an xl config; "" for an empty drive')
    .option('--format <format>', 'of the image; raw by default, never probed')
    .option('--vdev <vdev>', 'as xvdb; the first free one by default')
    .option('--type <type>', 'of the backend: one that the daemon serves; the first of them by default')
    .option('--read-only', 'the guest may not write')
    .option('--cdrom', 'a cdrom drive')
    .option('--wait <seconds>', "for the guest's driver to connect; 10 by default", integer([0, 3600]))
    .addHelpText('after', ATTACH_HELP)
    .action((domain: string, image: string, options: AttachArguments) => {
      const { format, vdev, type, readOnly, cdrom, wait } = options;
      const waiting = wait === undefined ? undefined : 1000 * wait;
      const args = { domain, image, format, vdev, type, 'read-only': readOnly, cdrom, 'wait-ms': waiting };
      return ask(options, { command: 'x-attach', args, answerMs: (waiting ?? 0) + LONG_MS }, formatDevices);
    });
}

/** An image may be slow to open, and a guest slow to let go. */
const LONG_MS = 120_000;

const DETACH_HELP = `
The guest is asked to let go of it, for ten seconds. One that does not do so keeps the disk, and the exit code is 1.

Examples:
  xen-blockd detach web1:xvdb
  xen-blockd detach qdisk-5-51728 --force           a guest that hangs is not asked
`;

/** `xen-blockd detach`. */
export function addDetach(program: Command): void {
  addQuery(program, 'detach', 'take a disk away from its guest')
    .argument('<disk>', DISK)
    .option('--force', 'the guest is not asked: it loses the disk, and what it has not written')
    .addHelpText('after', DETACH_HELP)
    .action((disk: string, options: QueryOptions & { force?: boolean }) =>
      ask(options, { command: 'x-detach', args: { disk, force: options.force }, answerMs: LONG_MS }, formatDevices),
    );
}
