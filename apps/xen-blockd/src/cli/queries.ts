import { parseRateLimits, RATE_LIMITS_FORM, type TakeOverConsent } from '@xenpv/xen-block';
import type { Command } from 'commander';
import { askDaemon, type DiskRequest } from '../control/ask-daemon.js';
import { DEFAULTS } from '../daemon/config.js';
import { BlockdError } from '../errors.js';
import type { DeviceStatus } from '../status/device-status.js';
import { formatAllStatistics, formatDevices, formatLimits, formatResumed } from '../status/device-table.js';
import { formatJson } from '../status/format.js';
import { integer } from './option-parsers.js';

/** How a disk is named. */
const DISK = 'as web1:xvda, its guest and vdev; its name or image, as list shows them; or its backend path';

interface Query {
  readonly name: string;
  readonly description: string;
  readonly request: DiskRequest;
  readonly format: (devices: readonly DeviceStatus[]) => string;
}

const QUERIES: readonly Query[] = [
  {
    name: 'list',
    description: 'list the disks that the daemon serves',
    request: { command: 'x-query-disks' },
    format: formatDevices,
  },
  {
    name: 'stats',
    description: "print the disks' counters",
    request: { command: 'x-query-disks' },
    format: formatAllStatistics,
  },
];

interface QueryOptions {
  readonly socket: string;
  readonly json?: boolean;
}

/** The commands of `xen-blockd` that ask a running daemon. */
export function addQueries(program: Command): void {
  for (const { name, description, request, format } of QUERIES) {
    addQuery(program, name, description).action(async (options: QueryOptions) => {
      await ask(options, request, format);
    });
  }
  addRefresh(program);
  addResume(program);
  addThrottle(program);
  addAttach(program);
  addDetach(program);
}

const RESUME_HELP = `
A disk that a daemon before this one served is held when it cannot be taken over safely; list and the log say why.

--without-journal risks the guest's data: which of its requests were carried out is not known. All that its rings show as
unanswered are carried out (again), some of which the guest may have been told to be done; others may never be answered,
so that the guest waits for them until it is restarted. Where that matters, detach the disk or stop the guest instead.

--accept-image has the guest go on with what is in the place of its image now. What it has in its memory of the other
image does not fit to it, and will be written to it.
`;

function addResume(program: Command): void {
  addQuery(program, 'resume', 'go on with a disk that is stopped by an error of its storage, or held')
    .argument('<disk>', DISK)
    .option('--without-journal', 'take it over though the journal of its requests is lost; see below')
    .option('--accept-image', 'take it over though its image is another one, or shorter; see below')
    .addHelpText('after', RESUME_HELP)
    .action((disk: string, options: QueryOptions & TakeOverConsent) => {
      const args = { disk, 'without-journal': options.withoutJournal, 'accept-image': options.acceptImage };
      return ask(options, { command: 'x-resume', args }, formatResumed);
    });
}

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

function addThrottle(program: Command): void {
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

const ATTACH_HELP = `
The disk is written into xenstore as xl writes one, so that any guest may have it, whatever its toolstack is; xl sees it too
where the guest is xl's. It is there until it is detached, or the guest ends. A guest whose driver does not connect in time
keeps the disk, and may connect later; one that the daemon refuses is taken away again.

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

function addAttach(program: Command): void {
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

function addDetach(program: Command): void {
  addQuery(program, 'detach', 'take a disk away from its guest')
    .argument('<disk>', DISK)
    .option('--force', 'the guest is not asked: it loses the disk, and what it has not written')
    .action((disk: string, options: QueryOptions & { force?: boolean }) =>
      ask(options, { command: 'x-detach', args: { disk, force: options.force }, answerMs: LONG_MS }, formatDevices),
    );
}

function addRefresh(program: Command): void {
  addQuery(program, 'refresh', 'look at the sizes of images again, and tell the guests')
    .argument('[disk]', `only this one: ${DISK}`)
    .option('--allow-shrink', 'the image may have become smaller: the guest loses its end')
    .action(async (disk: string | undefined, options: QueryOptions & { allowShrink?: boolean }) => {
      const { allowShrink } = options;
      if (allowShrink && disk === undefined) {
        throw new BlockdError('ERR_USAGE', 'refresh', '--allow-shrink needs the name of the disk; see xen-blockd list');
      }
      await ask(options, { command: 'x-refresh', args: { disk, 'allow-shrink': allowShrink } }, formatDevices);
    });
}

function addQuery(program: Command, name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option('--socket <path>', "the daemon's control socket", DEFAULTS['control-socket'])
    .option('--json', 'print JSON');
}

async function ask({ socket, json }: QueryOptions, request: DiskRequest, format: Query['format']): Promise<void> {
  const devices = await askDaemon(socket, request);
  process.stdout.write(json ? formatJson(devices) : format(devices));
}
