/** Commands that QEMU has none for. Each answers with the disks that it is about, as `xen-blockd list --json` prints them. */
import { once } from 'node:events';
import { type QmpCommand, QmpError, qmpCommand } from '@xenpv/qmp';
import { type BlockDevice, parseRateLimits, RATE_LIMITS_FORM } from '@xenpv/xen-block';
import { Deadline } from '../../deadline.js';
import { attachDisk, detachDisk } from '../attachment.js';
import { type ControlContext, disksOf, namedAddress, namedDisk, type UnopenedDisk, unopenedOf } from '../controlled.js';
import { closedDisks } from '../disks/closed-disks.js';
import { reportsOf } from '../disks/disk-reports.js';

/** For a guest's driver to connect: what libxl waits for a backend. */
const ATTACH_MS = 10_000;

/** For the requests of a disk that is paused, which storage that hangs does not answer. */
const PAUSE_MS = 10_000;

const DISKS = { array: 'any' } as const;

export function diskCommands(controlled: ControlContext): Record<string, QmpCommand> {
  return {
    /** All disks, or one. */
    'x-query-disks': qmpCommand({
      members: { 'disk?': 'str' },
      returns: DISKS,
      run: async ({ disk }) =>
        reportsOf(controlled, disk === undefined ? allOf(controlled) : [await namedAddress(controlled, disk)]),
    }),
    /** Looks at the sizes of images again: of all disks, or of one, which may be allowed to shrink. */
    'x-refresh': qmpCommand({
      members: { 'disk?': 'str', 'allow-shrink?': 'bool' },
      returns: DISKS,
      async run({ disk, 'allow-shrink': mayShrink }) {
        if (mayShrink && disk === undefined) throw QmpError.refusal("'allow-shrink' needs 'disk'");
        if (disk === undefined) await controlled.backend()?.refresh();
        else await (await namedDisk(controlled, disk)).refresh({ mayShrink });
        return reportsOf(controlled, allOf(controlled));
      },
    }),
    /** Goes on with a disk that is stopped or held. The flags are for one that cannot be taken over. */
    'x-resume': qmpCommand({
      members: { disk: 'str', 'without-journal?': 'bool', 'accept-image?': 'bool' },
      returns: DISKS,
      async run({ disk, 'without-journal': withoutJournal, 'accept-image': acceptImage }) {
        const device = await namedDisk(controlled, disk);
        const wasStopped = await device.resume({ withoutJournal, acceptImage });
        const [report] = await reportsOf(controlled, [device]);
        return [{ ...report, wasStopped }];
      },
    }),
    /** Takes no more requests, until x-unpause; waits so long for those that were taken to be answered. */
    'x-pause': qmpCommand({
      members: { disk: 'str', 'wait-ms?': 'size' },
      returns: DISKS,
      async run({ disk, 'wait-ms': waitMs = PAUSE_MS }, { signal }) {
        const device = await namedDisk(controlled, disk);
        await device.setPaused(true);
        await drained(device, waitMs, signal);
        return reportsOf(controlled, [device]);
      },
    }),
    /** Ends x-pause. Harmless when the disk is not paused. */
    'x-unpause': qmpCommand({
      members: { disk: 'str' },
      returns: DISKS,
      async run({ disk }) {
        const device = await namedDisk(controlled, disk);
        await device.setPaused(false);
        return reportsOf(controlled, [device]);
      },
    }),
    /** Attaches a disk to a guest, whatever its toolstack is. The answer has this disk only. */
    'x-attach': qmpCommand({
      members: {
        domain: 'str',
        image: 'str',
        'format?': 'str',
        'vdev?': 'str',
        'type?': 'str',
        'read-only?': 'bool',
        'cdrom?': 'bool',
        'wait-ms?': 'size',
      },
      returns: DISKS,
      async run(args, { signal }) {
        const { domain, image, format = 'raw', vdev, type, cdrom = false } = args;
        const { 'read-only': readOnly = false, 'wait-ms': waitMs = ATTACH_MS } = args;
        const disk = { domain, image, format, vdev, type, readOnly, cdrom, waitMs };
        return reportsOf(controlled, [await attachDisk(controlled, disk, signal)]);
      },
    }),
    /** Takes a disk away from its guest. The answer has the disks that are left. */
    'x-detach': qmpCommand({
      members: { disk: 'str', 'force?': 'bool' },
      returns: DISKS,
      async run({ disk, force = false }) {
        // One whose detaching was cut off too.
        const found = await namedAddress(controlled, disk, await closedDisks(controlled));
        await detachDisk(controlled, found, force);
        return reportsOf(controlled, allOf(controlled));
      },
    }),
    /** What a disk may do in a second, or with `guest` all disks of its guest. Without `limits` nothing is changed. */
    'x-throttle': qmpCommand({
      members: { disk: 'str', 'limits?': 'str', 'guest?': 'bool' },
      returns: DISKS,
      async run({ disk, limits, guest = false }) {
        const device = await namedDisk(controlled, disk);
        const changed = guest ? disksOfGuest(disksOf(controlled), device) : [device];
        if (limits !== undefined) {
          const parsed = limits === 'default' ? undefined : parseRateLimits(limits);
          if (limits !== 'default' && !parsed) {
            throw QmpError.refusal(`limits ${limits}: expected ${RATE_LIMITS_FORM}, or "default"`);
          }
          for (const each of changed) await each.setLimits(guest ? 'guest' : 'disk', parsed);
        }
        return reportsOf(controlled, changed);
      },
    }),
  };
}

/** Those too that are not open. */
function allOf(controlled: ControlContext): (BlockDevice | UnopenedDisk)[] {
  return [...disksOf(controlled), ...unopenedOf(controlled).map((address) => ({ address }))];
}

function disksOfGuest(devices: readonly BlockDevice[], { address }: BlockDevice): BlockDevice[] {
  return devices.filter((device) => device.address.domid === address.domid);
}

/** Waits until all that was taken is answered, for so long at most, and while anybody wants to know. */
async function drained(device: BlockDevice, milliseconds: number, signal: AbortSignal): Promise<void> {
  using deadline = new Deadline(signal, milliseconds);
  try {
    await Promise.race([device.drain(), once(deadline.signal, 'abort')]);
  } finally {
    device.undrain();
  }
}
