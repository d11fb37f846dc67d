/** Disks as QEMU's clients add and remove them: nodes, and devices on nodes (hw/block/xen-block.c of QEMU). */
import { type QmpCommand, QmpError, qmpCommand } from '@xenpv/qmp';
import { deviceName } from '@xenpv/xenbus';
import { attachDisk, detachDisk } from '../attachment.js';
import { NODE_DRIVERS } from '../block-nodes.js';
import { type ControlContext, namedDisk } from '../controlled.js';
import { isNameOfDisk } from '../device-ids.js';
import { helperNeeded } from './jobs/bitmaps.js';

const NODE = {
  driver: { enum: NODE_DRIVERS },
  'node-name': 'str',
  'filename?': 'str',
  'file?': 'any',
  'read-only?': 'bool',
  // The disk that a backup is pulled of; null is none, which is what every other image has.
  'backing?': 'any',
  // How QEMU would open it. The daemon's configuration says how we do.
  'auto-read-only?': 'bool',
  'discard?': { enum: ['ignore', 'unmap'] },
  'cache?': 'any',
  'aio?': 'str',
  'locking?': 'str',
} as const;

/** In QEMU too device_add returns before the guest has the disk. */
const WAIT_MS = 0;

/** `unplugFailed` is told of a disk that its guest does not let go of. */
export function deviceCommands(
  controlled: ControlContext,
  unplugFailed: (id: string) => void,
): Record<string, QmpCommand> {
  const { ids, nodes, types } = controlled;
  return {
    /**
     * A name for an image, which device_add makes disks of: a `file` or `host_device`, and a format on it. A qcow2 whose
     * `backing` is a disk is the scratch image of a backup that is pulled: see blockdev-backup.
     */
    'blockdev-add': qmpCommand({
      members: NODE,
      async run({ backing, ...node }) {
        const { 'node-name': name } = node;
        if (isNameOfDisk(name, types))
          throw QmpError.refusal(`node-name '${name}': disks have such names by themselves`);
        nodes.add({ ...node, backing: await backingDisk(controlled, backing) });
      },
    }),
    /** Forgets such a name; the image stays. */
    'blockdev-del': qmpCommand({ members: { 'node-name': 'str' }, run: ({ 'node-name': name }) => nodes.remove(name) }),
    /** A `xen-disk` or `xen-cdrom` of a node, for the guest `frontend-id`. It returns before the guest has connected. */
    device_add: qmpCommand({
      members: {
        driver: { enum: ['xen-disk', 'xen-cdrom'] },
        id: 'str',
        /** QEMU serves one guest, which it knows; this daemon is told. */
        'frontend-id': 'size',
        'vdev?': 'str',
        'drive?': 'str',
      },
      async run({ driver, id, 'frontend-id': domid, vdev, drive }, { signal }) {
        using _adding = ids.adding(id, types);
        const cdrom = driver === 'xen-cdrom';
        if (!cdrom && drive === undefined) throw QmpError.refusal("Parameter 'drive' is missing");
        const node = drive === undefined ? undefined : nodes.get(drive);
        if (node) nodes.use(node.name, id);
        try {
          const { filename: image = '', format = 'raw', readOnly = cdrom } = node ?? {};
          const disk = { domain: String(domid), image, format, vdev, readOnly, cdrom, waitMs: WAIT_MS };
          const { address } = await attachDisk(controlled, disk, signal);
          ids.add(id, deviceName(address));
        } catch (error) {
          nodes.release(id);
          throw error;
        }
      },
    }),
    /** Asks the guest to let go of a disk. DEVICE_DELETED tells when it is gone. */
    device_del: qmpCommand({
      members: { id: 'str' },
      async run({ id }) {
        const disk = await namedDisk(controlled, id);
        detachDisk(controlled, disk, false).catch(() => unplugFailed(id));
      },
    }),
  };
}

/** The name that a disk has by itself. Errors: QmpError, it is no disk, or none with a helper. */
async function backingDisk(controlled: ControlContext, backing: unknown): Promise<string | undefined> {
  if (backing === undefined || backing === null) return undefined;
  if (typeof backing !== 'string') throw QmpError.refusal("Parameter 'backing' must be the name of a disk, or null");
  const disk = await namedDisk(controlled, backing);
  helperNeeded(disk, backing, 'backup');
  return deviceName(disk.address);
}
