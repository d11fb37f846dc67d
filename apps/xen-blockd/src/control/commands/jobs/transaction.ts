/** Backups and dirty bitmaps of one or more disks, all of one instant, or none of them: QEMU's `transaction`. */
import { type QmpCommand, QmpError, qmpCommand } from '@xenpv/qmp';
import type { BlockDevice } from '@xenpv/xen-block';
import { deviceName } from '@xenpv/xenbus';
import { Deadline } from '../../../deadline.js';
import { type ControlContext, namedDisk } from '../../controlled.js';
import { backupCommands } from './backup.js';
import { bitmapCommands } from './bitmaps.js';
import { LATE, type Still, Together } from './together.js';

/** For what nobody ends. */
const NEVER = new AbortController().signal;

/** While several disks stand still: storage may hang, and their guests wait. */
const STILL_MS = 5_000;

const BITMAP_ACTIONS = ['add', 'remove', 'clear', 'enable', 'disable', 'merge'] as const;

/** Begins a job, of which a disk has one at a time. */
const BACKUPS = ['blockdev-backup', 'drive-backup'] as const;

/** Fails, and with it all others: QEMU's own, for trying out. */
const ABORT = 'abort';

const ACTION = {
  type: { enum: [...BACKUPS, ...BITMAP_ACTIONS.map((name) => `block-dirty-bitmap-${name}`), ABORT] },
  data: 'any',
} as const;

interface Action {
  readonly type: string;
  readonly data: unknown;
}

export function transactionCommands(controlled: ControlContext): Record<string, QmpCommand> {
  return {
    /**
     * All `actions`, which are commands of this socket with their arguments as `data`, or none: between two requests of a
     * guest. Disks stand still for a moment where there are several, so that what they are backed up to is of one instant.
     */
    transaction: qmpCommand({
      members: {
        actions: { array: { object: ACTION } },
        // Jobs go on by themselves: grouped ones would have to end together.
        'properties?': { object: { 'completion-mode?': { enum: ['individual'] } } },
      },
      run: ({ actions }, { signal }) => carryOut(controlled, actions, signal),
    }),
  };
}

async function carryOut(controlled: ControlContext, all: readonly Action[], signal: AbortSignal): Promise<void> {
  const actions = all.filter(({ type }) => type !== ABORT);
  const disks = await disksOfActions(controlled, actions);
  const together = new Together(actions.length, {
    isAborted: actions.length < all.length,
    still: (run) => standingStill(disks, signal, run),
  });
  const begun = actions.map(async ({ type, data }, index) => {
    const member = together.member(index);
    const commands = { ...bitmapCommands(controlled, member), ...backupCommands(controlled, member) };
    try {
      await commands[type]?.execute(data, { signal });
    } catch (error) {
      together.fail(error);
    }
  });
  await Promise.all(begun);
  await together.done;
}

/** Errors: QmpError, a disk is not there, or would have two jobs; two jobs would have one id. */
async function disksOfActions(controlled: ControlContext, actions: readonly Action[]): Promise<Set<BlockDevice>> {
  const disks = new Set<BlockDevice>();
  const [backedUp, ids] = [new Set<BlockDevice>(), new Set<string>()];
  for (const { type, data } of actions) {
    const { node, device: name = node, 'job-id': jobId } = (data ?? {}) as Record<string, unknown>;
    // The command itself says what is wrong with its arguments.
    if (typeof name !== 'string') continue;
    const disk = await namedDisk(controlled, name);
    disks.add(disk);
    if (!(BACKUPS as readonly string[]).includes(type)) continue;
    const id = typeof jobId === 'string' ? jobId : deviceName(disk.address);
    if (backedUp.has(disk))
      throw QmpError.refusal(`${name} has two backups in one transaction: a disk has one at a time`);
    if (ids.has(id)) throw QmpError.refusal(`Job ID '${id}' already in use`);
    backedUp.add(disk);
    ids.add(id);
  }
  return disks;
}

/** No request of their guests is under way meanwhile, if there are several. One helper's transaction is of one instant by itself. */
async function standingStill(
  disks: ReadonlySet<BlockDevice>,
  client: AbortSignal,
  run: (still: Still) => Promise<void>,
): Promise<void> {
  const still = { client, late: NEVER };
  if (disks.size < 2) return run(still);
  using deadline = new Deadline(NEVER, STILL_MS);
  const late = new Promise<never>((_, reject) => {
    const tell = () => reject(QmpError.refusal(LATE));
    deadline.signal.addEventListener('abort', tell, { once: true });
  });
  late.catch(() => {});
  const drained = [...disks].map((disk) => disk.drain());
  let running: Promise<void> | undefined;
  try {
    await Promise.race([Promise.all(drained), late]);
    running = run({ ...still, late: deadline.signal });
    await Promise.race([running, late]);
  } finally {
    for (const disk of disks) disk.undrain();
    // What helpers were told is known, and undone, before anybody is told that it is not done.
    await running?.catch(() => {});
  }
}
