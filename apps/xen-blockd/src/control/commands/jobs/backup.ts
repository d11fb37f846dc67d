/** Backups of disks in use, as QEMU's clients ask for them. */
import { type QmpCommand, QmpError, type QmpMembers, qmpCommand } from '@xenpv/qmp';
import { deviceName } from '@xenpv/xenbus';
import { Backup, type BackupTask } from '../../../images/copy/backup.js';
import { PulledBackup, scratchBytes } from '../../../images/copy/pulled-backup.js';
import type { CarryOut } from '../../../images/storage-daemon/monitor/actions.js';
import { bitmapsIn } from '../../../images/storage-daemon/monitor/bitmaps.js';
import type { StorageDaemon } from '../../../images/storage-daemon/storage-daemon.js';
import { type ControlContext, namedDisk } from '../../controlled.js';
import { helperNeeded } from './bitmaps.js';
import { beginJob, JOB_MEMBERS, type JobChoice } from './jobs.js';
import { bytesTaken, driveTarget, type NamedTarget, nodeTarget, openTarget, TARGET_MEMBERS } from './targets.js';

const SYNCS = ['full', 'top', 'none', 'incremental', 'bitmap'] as const;

/** Of both commands. */
const MEMBERS = {
  ...JOB_MEMBERS,
  device: 'str',
  target: 'str',
  sync: { enum: SYNCS },
  'speed?': 'size',
  'bitmap?': 'str',
  'compress?': 'bool',
  'bitmap-mode?': { enum: ['on-success', 'never', 'always'] },
} as const satisfies QmpMembers;

interface BackupRequest {
  readonly device: string;
  readonly choice: JobChoice;
  readonly task: Omit<BackupTask, 'id'>;
  readonly target: NamedTarget;
}

/** Backups are begun at once, or as `carryOut` says. */
export function backupCommands(controlled: ControlContext, carryOut?: CarryOut): Record<string, QmpCommand> {
  return {
    /**
     * To a node that blockdev-add has named: a file or device that is there already. To one whose `backing` is the disk, with
     * `sync` `none`: it gets what the guest overwrites, so that its export is the disk of this instant until the job is cancelled.
     */
    'blockdev-backup': qmpCommand({
      members: MEMBERS,
      async run({ device, target, 'job-id': id, 'auto-dismiss': dismissed, ...task }) {
        const choice = { 'job-id': id, 'auto-dismiss': dismissed };
        const { backing } = controlled.nodes.get(target);
        if (backing !== undefined && task.sync === 'none') {
          await backInto(controlled, { device, choice, task, node: target, backing }, carryOut);
        } else await back(controlled, { device, choice, task, target: nodeTarget(controlled, target) }, carryOut);
      },
    }),
    /** To a file that is made for it, under its name once it is whole; or to a file, device or NBD server that is there. */
    'drive-backup': qmpCommand({
      members: {
        ...MEMBERS,
        ...TARGET_MEMBERS,
      },
      async run({ device, target: name, 'job-id': id, 'auto-dismiss': dismissed, format, mode, ...task }) {
        const choice = { 'job-id': id, 'auto-dismiss': dismissed };
        await back(controlled, { device, choice, task, target: driveTarget(name, { format, mode }) }, carryOut);
      },
    }),
  };
}

async function back(
  controlled: ControlContext,
  { device, task, target, choice }: BackupRequest,
  carryOut?: CarryOut,
): Promise<void> {
  const disk = await namedDisk(controlled, device);
  const helper = helperNeeded(disk, device, 'backup');
  const { target: source } = disk.config ?? { target: '' };
  const size = disk.image?.size ?? 0;
  const open = async (folder: string) =>
    openTarget(controlled, { target, folder, source, size, bytes: await bytesOf(helper, source, task) });
  await beginJob(controlled, disk, choice, (id) => Backup.start({ disk, helper }, { id, ...task }, open, carryOut));
}

interface ScratchRequest extends Omit<BackupRequest, 'target'> {
  /** Of the scratch image. */
  readonly node: string;
  /** The disk that it is for. */
  readonly backing: string;
}

/** Nobody else has the scratch image until the job is over. */
async function backInto(
  controlled: ControlContext,
  { device, task, choice, node, backing }: ScratchRequest,
  carryOut?: CarryOut,
): Promise<void> {
  const { nodes } = controlled;
  const { filename: name, readOnly } = nodes.get(node);
  const disk = await namedDisk(controlled, device);
  const helper = helperNeeded(disk, device, 'backup');
  if (deviceName(disk.address) !== backing) throw QmpError.refusal(`Node ${node} is for a backup of ${backing}`);
  if (readOnly) throw QmpError.refusal(`Node ${node} is read-only`);
  const { target: source } = disk.config ?? { target: '' };
  const size = disk.image?.size ?? 0;
  const target = { name, format: 'raw', mode: 'existing' } as const;
  const open = (folder: string) =>
    openTarget(controlled, { target, folder, source, size, bytes: 0, room: scratchBytes(size) });
  await beginJob(controlled, disk, choice, async (id) => {
    nodes.open(node, `block job ${id}`);
    const scratch = { node, size, gone: () => nodes.close(node) };
    await PulledBackup.start({ disk, helper }, { id, ...task, scratch }, open, carryOut);
  });
}

/** Bytes that there are to copy, or about that: as much as the image has taken so far, or what is dirty. */
async function bytesOf(
  helper: StorageDaemon,
  source: string,
  { sync, bitmap }: BackupRequest['task'],
): Promise<number> {
  if (sync === 'none') return 0;
  if (sync === 'full' || sync === 'top') return bytesTaken(source);
  const found = (await bitmapsIn(await helper.monitor())).find(({ name }) => name === bitmap);
  return found?.count ?? 0;
}
