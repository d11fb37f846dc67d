/** Dirty bitmaps, by which backups have only what was written since the one before: QEMU's commands, carried out by helpers. */
import { type QmpCommand, QmpError, qmpCommand } from '@xenpv/qmp';
import type { BlockDevice } from '@xenpv/xen-block';
import { EXPORT } from '../../../images/storage-daemon/arguments.js';
import { helperOf } from '../../../images/storage-daemon/format-image.js';
import { atOnce } from '../../../images/storage-daemon/monitor/actions.js';
import { bitmapsIn, type DirtyBitmap } from '../../../images/storage-daemon/monitor/bitmaps.js';
import type { StorageDaemon } from '../../../images/storage-daemon/storage-daemon.js';
import { type ControlContext, namedDisk } from '../../controlled.js';

/** Commands with the members that they have besides `node` and `name`. */
const ON_BITMAPS = {
  /** Begins to note what is written to a qcow2 disk; `persistent` keeps that in the image. */
  'block-dirty-bitmap-add': { 'granularity?': 'size', 'persistent?': 'bool', 'disabled?': 'bool' },
  /** Forgets a bitmap. */
  'block-dirty-bitmap-remove': {},
  /** Empties a bitmap: what is written from now on is noted. */
  'block-dirty-bitmap-clear': {},
  /** Has a bitmap note what is written again. */
  'block-dirty-bitmap-enable': {},
  /** Has a bitmap stay as it is. */
  'block-dirty-bitmap-disable': {},
} as const;

/** A helper that does not answer is not worth a query without an end. */
const ANSWER_MS = 5000;

/** They are done at once, or as `carryOut` says. */
export function bitmapCommands(controlled: ControlContext, carryOut = atOnce): Record<string, QmpCommand> {
  const run = async (type: string, { node, ...args }: { readonly node: string }) => {
    const helper = helperNeeded(await namedDisk(controlled, node), node, 'dirty bitmaps');
    await carryOut(await helper.monitor(), { type, data: { node: EXPORT, ...args } });
  };
  const named = Object.entries(ON_BITMAPS).map(([type, members]) => [
    type,
    qmpCommand({ members: { node: 'str', name: 'str', ...members }, run: (args) => run(type, args) }),
  ]);
  return {
    ...Object.fromEntries(named),
    /** Adds what other bitmaps of the disk have noted to one of them. */
    'block-dirty-bitmap-merge': qmpCommand({
      members: { node: 'str', target: 'str', bitmaps: { array: 'str' } },
      run: (args) => run('block-dirty-bitmap-merge', args),
    }),
  };
}

/** The helper that does what only images with one have. Error: QmpError. */
export function helperNeeded({ image }: Pick<BlockDevice, 'image'>, name: string, what: string): StorageDaemon {
  const helper = helperOf(image);
  if (helper) return helper;
  if (!image) throw QmpError.refusal(`${name} has no image`, 'DeviceNotActive');
  const reason = 'its image is raw or on a server, and the guest writes to it past any helper';
  throw QmpError.refusal(`${name} has no ${what}: ${reason}; qcow2 has, see qemu-img convert -O qcow2`);
}

/** Of a disk; none where nobody can tell. */
export async function bitmapsOf({ image }: BlockDevice): Promise<readonly DirtyBitmap[]> {
  const helper = helperOf(image);
  if (!helper) return [];
  let late: NodeJS.Timeout | undefined;
  const nothing = new Promise<readonly DirtyBitmap[]>((resolve) => {
    late = setTimeout(() => resolve([]), ANSWER_MS);
  });
  const asked = helper.monitor().then(bitmapsIn);
  try {
    return await Promise.race([asked.catch(() => []), nothing]);
  } finally {
    clearTimeout(late);
  }
}
