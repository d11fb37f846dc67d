/**
 * Who uses an image, known in two places: the kernel's locks, which other programs see, and a list of this process's
 * own users, which knows their names and which of them are the same virtual machine. A block device that is written is
 * also claimed with O_EXCL, which mounts and other claims respect, under any name of the device.
 */
import { close, constants, open } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { optionalAddon } from '../addon.js';
import { reportLockUnavailable } from '../diagnostics.js';
import { BlockDeviceError, openError } from '../errors.js';
import type { ImageUser } from './image-user.js';
import { lockerOf, mountOf } from './other-user.js';
import { joinAsQemu, lockAsQemu } from './permissions.js';
import type { StorageId } from './storage-id.js';

const openFile = promisify(open);
const closeFile = promisify(close);

/** A process that was killed lets go of its files when its last I/O has ended. */
const WAIT_MS = 2000;
/** A disk of ours that its toolstack is about to end does not know it yet when the next one comes. */
const UNAWARE_MS = 500;
/** An image that is being closed here is let go of when its storage has answered, however slow that is. */
const CLOSING_MS = 30_000;
/** A guest may wait for this, and a look at the locks costs microseconds. */
const PAUSE_MS = 10;

/** What is to be locked. */
export interface LockRequest {
  readonly path: string;
  /** The descriptor whose open file description gets the locks: they go with its last reference. */
  readonly fd: number;
  /** Of the image. */
  readonly id: StorageId;
  readonly readOnly: boolean;
  readonly user: ImageUser;
}

/** One storage that this process uses. */
interface Used {
  readonly users: Set<LockRequest>;
  /** The descriptor that claims the block device for its writers. */
  claim: number | undefined;
}

const inUse = new Map<string, Used>();
/** Users that close their image. */
const closing = new WeakSet<LockRequest>();

/** A lock that is held. The byte locks go when the descriptor is closed, the rest with `release`. */
export class ImageLock {
  readonly #request: LockRequest;

  private constructor(request: LockRequest) {
    this.#request = request;
  }

  /**
   * Locks an image for a user, and waits for one that lets go of it: a moment for another one, which may be ending, and as
   * long as it takes, within bounds, for an image that is being closed here. Error: ERR_IMAGE_IN_USE, which names
   * the other user. Where there are no locks (no addon, ENOLCK) the other users of this process are still respected, and
   * `blockdev:lock:unavailable` tells.
   */
  static async take(request: LockRequest, signal?: AbortSignal): Promise<ImageLock> {
    const began = performance.now();
    while (true) {
      const problem = await tryLock(request);
      if (problem === undefined) return new ImageLock(request);
      if (performance.now() - began > problem.waitMs) throw await refusal(request, problem);
      await sleep(PAUSE_MS, undefined, { signal });
    }
  }

  /** The image is being closed: whoever wants it next may wait for that. */
  closes(): void {
    closing.add(this.#request);
  }

  /** Lets go of what is not the descriptor's. Harmless when repeated. */
  async release(): Promise<void> {
    await leave(this.#request);
  }
}

interface Problem {
  /** For so long it may pass. */
  readonly waitMs: number;
  readonly holder?: LockRequest | undefined;
}

/** Undefined: it is locked. */
async function tryLock(request: LockRequest): Promise<Problem | undefined> {
  const { key } = request.id;
  const used = inUse.get(key) ?? { users: new Set(), claim: undefined };
  const others = [...used.users];
  const rivals = others.filter((other) => !goTogether(request, other));
  const holder = rivals.find((rival) => !closing.has(rival)) ?? rivals[0];
  if (holder) return { waitMs: closing.has(holder) ? CLOSING_MS : UNAWARE_MS, holder };
  // From here on nobody else of this process gets in between, although opening takes a while.
  used.users.add(request);
  inUse.set(key, used);
  try {
    if (await lockForOthers(used, request, others)) return undefined;
  } catch (error) {
    await leave(request);
    throw error;
  }
  await leave(request);
  return { waitMs: WAIT_MS };
}

async function lockForOthers(used: Used, request: LockRequest, others: readonly LockRequest[]): Promise<boolean> {
  if (!lockBytes(request, others)) return false;
  if (request.id.device === undefined || request.readOnly || used.claim !== undefined) return true;
  const claim = await claimDevice(request);
  if (claim === undefined) return false;
  used.claim = claim;
  return true;
}

function lockBytes(request: LockRequest, others: readonly LockRequest[]): boolean {
  const { path, fd, readOnly } = request;
  const locks = optionalAddon();
  if (!locks) {
    reportLockUnavailable({ path, reason: 'there is no build of the addon for this machine' });
    return true;
  }
  try {
    // Beside the same owner's locks a stranger's cannot be told from them; they have kept strangers away already.
    const joins = others.length > 0 && [...others, request].some((each) => !each.readOnly);
    if (joins) joinAsQemu(locks, fd, path, readOnly);
    else return lockAsQemu(locks, fd, path, readOnly);
  } catch (error) {
    reportLockUnavailable({ path, reason: (error as Error).message });
  }
  return true;
}

/** The descriptor of an exclusive claim, or undefined: a mount or another program has one. */
async function claimDevice({ path, fd }: LockRequest): Promise<number | undefined> {
  try {
    // By the descriptor: the path may name another device by now.
    return await openFile(`/proc/self/fd/${fd}`, constants.O_RDONLY | constants.O_EXCL);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') return undefined;
    throw openError(error, 'lock', path);
  }
}

async function leave(request: LockRequest): Promise<void> {
  const { key } = request.id;
  const used = inUse.get(key);
  if (!used?.users.delete(request)) return;
  if (used.users.size === 0) inUse.delete(key);
  const { claim } = used;
  if (claim === undefined || [...used.users].some((user) => !user.readOnly)) return;
  used.claim = undefined;
  await closeFile(claim);
}

function goTogether(one: LockRequest, other: LockRequest): boolean {
  return one.user.owner === other.user.owner || (one.readOnly && other.readOnly);
}

async function refusal({ path, id, readOnly }: LockRequest, { holder }: Problem): Promise<BlockDeviceError> {
  const other =
    holder?.user.name ?? (await mountOf(id)) ?? (await lockerOf(id)) ?? 'another program, which /proc does not name';
  const use = readOnly ? 'reading' : 'writing';
  const message = `${path} cannot be had for ${use}: it is in use (${other})`;
  // Who reads this may be in the middle of a migration, where one more writer is the end of the guest's file system.
  const advice =
    'wait for the end of that use, or end it; mode w! is no way around it: it is for file systems that are made to be ' +
    'written by several hosts';
  return new BlockDeviceError('ERR_IMAGE_IN_USE', 'lock', `${message}; ${advice}`, { path });
}
