/**
 * Disks for guests whose toolstack knows nothing of us: written into xenstore as libxl writes them, in one transaction. In
 * come an operator's words. A disk that the daemon then refuses is taken away again, so that nothing is left half done.
 */
import { parseVdev, VdevError } from '@xenpv/blkif';
import { QmpError } from '@xenpv/qmp';
import { type BlockDevice, firstFreeVdev, IMAGE_FORMATS } from '@xenpv/xen-block';
import {
  backendPath,
  type DeviceAddress,
  deleteDevice,
  domainPath,
  errorNodePath,
  frontendPath,
  libxlPath,
  type NewDevice,
  parseState,
  removeDevice,
  writeDevice,
  writeLibxlDevice,
  XenbusState,
} from '@xenpv/xenbus';
import { isXenstoreError, type XenstoreClient, type XenstoreOperations } from '@xenpv/xenstore';
import { Deadline } from '../deadline.js';
import { type Controlled, disksOf, servingParts } from './controlled.js';
import { FRONTEND_TYPE, paramsOf } from './disks/disk-keys.js';

/** For an image to be opened: what slow storage and a helper's start may take. */
const OPEN_MS = 60_000;

/** libxl's words for the backends' types. */
const LIBXL_TYPES: Readonly<Record<string, string>> = { qdisk: 'qdisk', vbd3: 'vbd3', vbd: 'phy' };

/** What a new disk is to be. */
export interface NewDisk {
  /** The guest's number or name. */
  readonly domain: string;
  readonly image: string;
  readonly format: string;
  /** The first free one if undefined. */
  readonly vdev?: string | undefined;
  /** One of the types that the daemon serves; the first of them if undefined. */
  readonly type?: string | undefined;
  readonly readOnly: boolean;
  readonly cdrom: boolean;
  /** Milliseconds for the guest's driver to connect. One that does not leaves the disk where it is. */
  readonly waitMs: number;
}

/** Attaches a disk. Errors: QmpError, with the guest, the image or the reason of the refusal. */
export async function attachDisk(controlled: Controlled, disk: NewDisk, signal: AbortSignal): Promise<BlockDevice> {
  const { store, ownDomid } = servingParts(controlled);
  const type = disk.type ?? controlled.types[0];
  if (!controlled.types.includes(type)) {
    throw QmpError.refusal(`type ${type} is not served; this daemon serves ${controlled.types.join(', ')}`);
  }
  if (disk.format !== 'raw' && !IMAGE_FORMATS.includes(disk.format)) {
    throw QmpError.refusal(`format ${disk.format}: expected one of raw, ${IMAGE_FORMATS.join(', ')}`);
  }
  if (disk.image === '' && !disk.cdrom) throw QmpError.refusal('the disk needs an image');
  const address = await store
    .transaction((tx) => writeDisk(tx, { ...disk, type, ownDomid }))
    .catch((error) => throwDenied(error));
  await settled(store, ownDomid, address, { signal, waitMs: disk.waitMs });
  const attached = disksOf(controlled).find((device) => isAt(device, address));
  if (!attached) throw QmpError.refusal('somebody has taken the disk away already', 'DeviceNotActive');
  return attached;
}

/**
 * Takes a disk away: its guest is asked to let go of it, for ten seconds as by libxl; with `force` it is not asked.
 * Errors: QmpError, it does not let go.
 */
export async function detachDisk(
  controlled: Controlled,
  { address }: Pick<BlockDevice, 'address'>,
  force: boolean,
): Promise<void> {
  const { store, ownDomid } = servingParts(controlled);
  const device = { backendDomid: ownDomid, address, frontendType: FRONTEND_TYPE };
  if (force) await store.remove(frontendPath(address, FRONTEND_TYPE)).catch((error) => throwDenied(error));
  try {
    await removeDevice(store, device);
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ETIMEDOUT') return throwDenied(error);
    if (!force)
      throw QmpError.refusal(`${(error as Error).message}; its guest may be using it: unmount it, or force it`);
    await deleteDevice(store, device);
  }
  await store.remove(libxlPath(address, FRONTEND_TYPE)).catch((error) => throwDenied(error));
}

/** A driver domain may not write into a guest's directory. */
function throwDenied(error: unknown): never {
  if (!isXenstoreError(error, 'EACCES')) throw error;
  throw QmpError.refusal('only dom0 may attach and detach disks: do it there, with xl');
}

async function writeDisk(
  tx: XenstoreOperations,
  disk: NewDisk & { readonly type: string; readonly ownDomid: number },
): Promise<DeviceAddress> {
  const domid = await domidOf(tx, disk.domain);
  const vdev = disk.vdev ?? (await firstFreeVdev(tx, domid));
  const address = { type: disk.type, domid, devid: devidOf(vdev) };
  const frontend = frontendPath(address, FRONTEND_TYPE);
  if (await tx.exists(`${frontend}/state`)) {
    throw QmpError.refusal(`domain ${domid} has a disk ${vdev} already; detach that one, or name another vdev`);
  }
  const device: NewDevice = {
    backendDomid: disk.ownDomid,
    address,
    frontendType: FRONTEND_TYPE,
    backendValues: backendValuesOf(disk, { address, vdev }),
    frontendValues: { 'virtual-device': address.devid, 'device-type': disk.cdrom ? 'cdrom' : 'disk' },
  };
  await writeDevice(tx, device);
  if (await tx.exists(`/libxl/${domid}`)) await writeLibxlDevice(tx, device);
  return address;
}

function backendValuesOf(
  disk: NewDisk & { type: string },
  { address, vdev }: { address: DeviceAddress; vdev: string },
) {
  const { type, format, image, cdrom } = disk;
  const writable = !disk.readOnly && !cdrom;
  return {
    frontend: frontendPath(address, FRONTEND_TYPE),
    'frontend-id': address.domid,
    online: 1,
    removable: cdrom ? 1 : 0,
    bootable: 1,
    state: XenbusState.initialising,
    dev: vdev,
    type: LIBXL_TYPES[type] ?? type,
    mode: writable ? 'w' : 'r',
    'device-type': cdrom ? 'cdrom' : 'disk',
    'discard-enable': writable ? 1 : 0,
    specification: 'xen',
    params: paramsOf(address, image, format),
    // What a hotplug script says; there is none.
    ...(type === 'qdisk' ? {} : { 'hotplug-status': 'connected' }),
  };
}

async function domidOf(tx: XenstoreOperations, domain: string): Promise<number> {
  if (/^\d{1,5}$/.test(domain)) {
    if (await tx.exists(domainPath(Number(domain)))) return Number(domain);
    throw QmpError.refusal(`there is no domain ${domain}`, 'DeviceNotFound');
  }
  const domids = ((await tx.tryDirectory('/local/domain')) ?? []).map(Number);
  const names = await Promise.all(domids.map((domid) => tx.tryRead(`${domainPath(domid)}/name`)));
  const found = domids.filter((_, i) => names[i] === domain);
  if (found.length === 1) return found[0];
  const known = names.filter((name) => name !== undefined).join(', ');
  const problem = found.length === 0 ? `there is no domain ${domain}` : `more than one domain is named ${domain}`;
  throw QmpError.refusal(`${problem}; the domains are ${known}`, 'DeviceNotFound');
}

function devidOf(vdev: string): number {
  try {
    return parseVdev(vdev).number;
  } catch (error) {
    if (!(error instanceof VdevError)) throw error;
    throw QmpError.refusal(error.message);
  }
}

interface Settling {
  /** Aborted when nobody waits any more. */
  readonly signal: AbortSignal;
  readonly waitMs: number;
}

/**
 * Resolves when the daemon has opened the disk, and its guest is connected or has not come in time. Error: the daemon
 * refuses the disk, or does not open it, and it is gone then.
 */
async function settled(
  store: XenstoreClient,
  ownDomid: number,
  address: DeviceAddress,
  { signal, waitMs }: Settling,
): Promise<void> {
  const path = backendPath(ownDomid, address);
  const until = (isThere: (state: XenbusState) => boolean, ms: number) =>
    withinTime(store, { signal, ms }, async (ops) => {
      const state = parseState(await ops.tryRead(`${path}/state`));
      return isThere(state) || isRefusal(state) ? state : undefined;
    });
  const opened = await until((state) => state >= XenbusState.initWait, OPEN_MS);
  const state = opened === XenbusState.initWait ? await until((now) => now === XenbusState.connected, waitMs) : opened;
  if (opened !== undefined && (state === undefined || !isRefusal(state))) return;
  const known = await store.tryRead(`${errorNodePath(ownDomid, address)}/error`);
  await deleteDevice(store, { backendDomid: ownDomid, address, frontendType: FRONTEND_TYPE });
  await store.remove(libxlPath(address, FRONTEND_TYPE));
  throw QmpError.refusal(known ?? `the disk was not opened within ${OPEN_MS / 1000} seconds`);
}

function isRefusal(state: XenbusState): boolean {
  return state === XenbusState.closing || state === XenbusState.closed;
}

/** What `look` finds, or undefined when that takes too long. */
async function withinTime<T>(
  store: XenstoreClient,
  { signal, ms }: { signal: AbortSignal; ms: number },
  look: (ops: XenstoreOperations) => Promise<T | undefined>,
): Promise<T | undefined> {
  using deadline = new Deadline(signal, ms);
  try {
    return await store.waitFor(look, { signal: deadline.signal });
  } catch (error) {
    if (deadline.signal.aborted) return undefined;
    throw error;
  }
}

function isAt({ address: { type, domid, devid } }: BlockDevice, wanted: DeviceAddress): boolean {
  return type === wanted.type && domid === wanted.domid && devid === wanted.devid;
}
