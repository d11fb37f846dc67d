/** Backups of disks in use, as QEMU's clients ask for them. */
import { statSync } from 'node:fs';
import { type QmpCommand, QmpError, type QmpMembers, qmpCommand } from '@xenpv/qmp';
import { IMAGE_FORMATS } from '@xenpv/xen-block';
import { deviceName } from '@xenpv/xenbus';
import { Backup, type BackupTask } from '../../images/backup/backup.js';
import { FileTarget } from '../../images/backup/file-target.js';
import { ServerTarget } from '../../images/backup/server-target.js';
import type { BackupTarget } from '../../images/backup/target.js';
import { checkServer } from '../../images/image-opener.js';
import { nbdTarget } from '../../images/nbd-target.js';
import { bitmapsIn } from '../../images/storage-daemon/monitor/bitmaps.js';
import type { StorageDaemon } from '../../images/storage-daemon/storage-daemon.js';
import { type ControlContext, namedDisk } from '../controlled.js';
import { helperNeeded } from './bitmaps.js';
import { refuseKnownJob } from './jobs.js';

const SYNCS = ['full', 'top', 'none', 'incremental', 'bitmap'] as const;

/** stat(2)'s. */
const BYTES_OF_BLOCK = 512;

/** Of both commands. */
const MEMBERS = {
  'job-id?': 'str',
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
  readonly 'job-id'?: string | undefined;
  readonly task: Omit<BackupTask, 'id'>;
  readonly target: { readonly name: string; readonly format: string; readonly mode: 'create' | 'existing' };
}

export function backupCommands(controlled: ControlContext): Record<string, QmpCommand> {
  return {
    /** To a node that blockdev-add has named: a file or device that is there already. */
    'blockdev-backup': qmpCommand({
      members: MEMBERS,
      async run({ device, target, 'job-id': id, ...task }) {
        const { filename: name, format, readOnly } = controlled.nodes.get(target);
        if (readOnly) throw QmpError.refusal(`Node ${target} is read-only`);
        await back(controlled, { device, 'job-id': id, task, target: { name, format, mode: 'existing' } });
      },
    }),
    /** To a file that is made for it, under its name once it is whole; or to a file, device or NBD server that is there. */
    'drive-backup': qmpCommand({
      members: {
        ...MEMBERS,
        'format?': { enum: ['raw', 'vpc', ...IMAGE_FORMATS] },
        'mode?': { enum: ['absolute-paths', 'existing'] },
      },
      async run({ device, target: name, 'job-id': id, format = 'qcow2', mode = 'absolute-paths', ...task }) {
        const target = {
          ...{ name, format: format === 'vpc' ? 'vhd' : format },
          mode: mode === 'existing' ? ('existing' as const) : ('create' as const),
        };
        await back(controlled, { device, 'job-id': id, task, target });
      },
    }),
  };
}

async function back(controlled: ControlContext, { device, task, target, ...rest }: BackupRequest): Promise<void> {
  const disk = await namedDisk(controlled, device);
  const helper = helperNeeded(disk, device, 'backup');
  const id = rest['job-id'] ?? deviceName(disk.address);
  await refuseKnownJob(controlled, id);
  const { target: source } = disk.config ?? { target: '' };
  const size = disk.image?.size ?? 0;
  await Backup.start({ disk, helper }, { id, ...task }, async (folder) =>
    openTarget(controlled, { target, folder, source, size, bytes: await bytesOf(helper, source, task) }),
  );
}

interface TargetRequest extends Pick<BackupRequest, 'target'> {
  readonly folder: string;
  readonly source: string;
  readonly size: number;
  readonly bytes: number;
}

async function openTarget(
  { imagePolicy }: ControlContext,
  { target: { name: path, format, mode }, ...rest }: TargetRequest,
): Promise<BackupTarget> {
  const policy = imagePolicy();
  const server = nbdTarget(path);
  if (!server) return FileTarget.open({ path, format, mode, policy, ...rest });
  if (mode === 'create') throw QmpError.refusal(`${path}: a server's export is there already: expected mode existing`);
  checkServer(server.address, path, policy);
  return ServerTarget.open(server, { target: path, folder: rest.folder });
}

/** Bytes that there are to copy, or about that: as much as the image has taken so far, or what is dirty. */
async function bytesOf(
  helper: StorageDaemon,
  source: string,
  { sync, bitmap }: BackupRequest['task'],
): Promise<number> {
  if (sync === 'none') return 0;
  if (sync === 'full' || sync === 'top') {
    const { blocks = 0 } = statSync(source, { throwIfNoEntry: false }) ?? {};
    return BYTES_OF_BLOCK * blocks;
  }
  const found = (await bitmapsIn(await helper.monitor())).find(({ name }) => name === bitmap);
  return found?.count ?? 0;
}
