/** Backups of disks in use, as QEMU's clients ask for them. */
import { type QmpCommand, type QmpMembers, qmpCommand } from '@xenpv/qmp';
import { Backup, type BackupTask } from '../../../images/copy/backup.js';
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
    /** To a node that blockdev-add has named: a file or device that is there already. */
    'blockdev-backup': qmpCommand({
      members: MEMBERS,
      async run({ device, target, 'job-id': id, 'auto-dismiss': dismissed, ...task }) {
        const choice = { 'job-id': id, 'auto-dismiss': dismissed };
        await back(controlled, { device, choice, task, target: nodeTarget(controlled, target) }, carryOut);
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
