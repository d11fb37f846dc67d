/** Copies that follow disks in use, as QEMU's clients ask for them. */
import { type QmpCommand, QmpError, type QmpMembers, qmpCommand } from '@xenpv/qmp';
import { type BlockDevice, type NamedImage, parseParams } from '@xenpv/xen-block';
import { Mirror, type MirrorTask, type NewImage } from '../../../images/copy/mirror.js';
import { type ControlContext, namedDisk } from '../../controlled.js';
import { paramsOf } from '../../disks/disk-keys.js';
import { readParams, writeParams } from '../../disks/disk-params.js';
import { helperNeeded } from './bitmaps.js';
import { beginJob, JOB_MEMBERS, type JobChoice } from './jobs.js';
import { bytesTaken, driveTarget, type NamedTarget, nodeTarget, openTarget, TARGET_MEMBERS } from './targets.js';

/** Of both commands. */
const MEMBERS = {
  ...JOB_MEMBERS,
  device: 'str',
  target: 'str',
  sync: { enum: ['full', 'top'] },
  'speed?': 'size',
  'copy-mode?': { enum: ['background', 'write-blocking'] },
} as const satisfies QmpMembers;

interface MirrorRequest {
  readonly device: string;
  readonly choice: JobChoice;
  readonly task: Omit<MirrorTask, 'id'>;
  readonly target: NamedTarget;
}

export function mirrorCommands(controlled: ControlContext): Record<string, QmpCommand> {
  return {
    /**
     * Copies a qcow2 disk to a node that blockdev-add has named, a file or device that is there, and goes on with what the guest
     * writes. After BLOCK_JOB_READY block-job-complete has the disk go on with the copy; block-job-cancel leaves a copy of that
     * instant.
     */
    'blockdev-mirror': qmpCommand({
      members: MEMBERS,
      async run({ device, target, 'job-id': id, 'auto-dismiss': dismissed, ...task }) {
        const choice = { 'job-id': id, 'auto-dismiss': dismissed };
        await mirror(controlled, { device, choice, task, target: nodeTarget(controlled, target) });
      },
    }),
    /** The same to a file that is made for it, under its name once it has all; or to a file, device or NBD server that is there. */
    'drive-mirror': qmpCommand({
      members: { ...MEMBERS, ...TARGET_MEMBERS },
      async run({ device, target: name, 'job-id': id, 'auto-dismiss': dismissed, format, mode, ...task }) {
        const choice = { 'job-id': id, 'auto-dismiss': dismissed };
        await mirror(controlled, { device, choice, task, target: driveTarget(name, { format, mode }) });
      },
    }),
  };
}

async function mirror(controlled: ControlContext, { device, task, target, choice }: MirrorRequest): Promise<void> {
  const disk = await namedDisk(controlled, device);
  const helper = helperNeeded(disk, device, 'mirror');
  const { target: source = '', readOnly, shared } = disk.config ?? {};
  if (readOnly) throw QmpError.refusal(`${source} is read-only: it does not change; copy it`);
  if (shared) throw QmpError.refusal(`${source} may be written to by others (mode w!)`);
  if (task.sync === 'top' && target.mode === 'create') {
    const advice = 'make one by qemu-img create -b, and give mode existing';
    throw QmpError.refusal(`sync top: a target that has the same backing file is needed; ${advice}`);
  }
  const [size, bytes] = [disk.image?.size ?? 0, bytesTaken(source)];
  const open = (folder: string) => openTarget(controlled, { target, folder, source, size, bytes });
  const copy = { open, image: newImage(controlled, disk, target) };
  await beginJob(controlled, disk, choice, (id) => Mirror.start({ disk, helper }, { id, ...task }, copy));
}

/** The disk's `params` say which image it has, to whichever process serves it: one write changes both. */
function newImage(controlled: ControlContext, disk: BlockDevice, target: NamedTarget): NewImage {
  const { address } = disk;
  const params = paramsOf(address, target.name, target.format);
  let before: string | undefined;
  return {
    async adopt(): Promise<NamedImage> {
      before = await readParams(controlled, address);
      await writeParams(controlled, address, params);
      return parseParams(params, address.type);
    },
    async giveBack() {
      if (before !== undefined) await writeParams(controlled, address, before);
    },
  };
}
