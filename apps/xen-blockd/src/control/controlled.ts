import { QmpError } from '@xenpv/qmp';
import type { BlockDevice, ImageOpener, XenBlockBackend } from '@xenpv/xen-block';
import { type DeviceAddress, deviceName } from '@xenpv/xenbus';
import type { XenstoreClient } from '@xenpv/xenstore';
import type { TargetPolicy } from '../images/copy/target.js';
import type { Observed } from '../status/disks/device-status.js';
import type { BlockNodes } from './block-nodes.js';
import type { DeviceIds } from './device-ids.js';
import { findDisk } from './disks/find-disk.js';
import { nameOfDomain } from './guest-names.js';
import type { KnownJobs } from './known-jobs.js';

/** What serves: undefined parts while the daemon starts. */
export interface Controlled {
  /** Backend types that are served. */
  readonly types: readonly string[];
  /** The configuration file, if there is one. */
  readonly configuration: string | undefined;
  readonly backend: () => XenBlockBackend | undefined;
  readonly store: () => XenstoreClient | undefined;
  /** What was seen of a disk until now. */
  readonly observedOf: (device: BlockDevice | UnopenedDisk) => Observed;
  /** Which files and servers images may be. */
  readonly imagePolicy: () => TargetPolicy;
  /** Opens images as disks have them. */
  readonly openImage: () => ImageOpener | undefined;
  /** The process ends as after SIGTERM. */
  readonly quit: () => void;
}

/** A disk that nothing has opened. */
export interface UnopenedDisk {
  readonly address: DeviceAddress;
}

/** What the commands of a control socket share. */
export interface ControlContext extends Controlled {
  readonly ids: DeviceIds;
  readonly nodes: BlockNodes;
  readonly jobs: KnownJobs;
}

/** What the image of a disk is called: its node of blockdev-add, or the disk's own name. */
export function nodeNameOf({ ids, nodes }: Pick<ControlContext, 'ids' | 'nodes'>, device: string): string {
  return nodes.nodeOf(ids.idOf(device)) ?? device;
}

/** What serves. Error: DeviceNotActive while the daemon starts. */
export function servingParts({ backend, store }: Controlled): { store: XenstoreClient; ownDomid: number } {
  const [serving, client] = [backend(), store()];
  if (!serving || !client) throw QmpError.refusal('the daemon is starting', 'DeviceNotActive');
  return { store: client, ownDomid: serving.ownDomid };
}

/** All disks; none while the daemon starts. */
export function disksOf({ backend }: Controlled): BlockDevice[] {
  return [...(backend()?.devices ?? [])];
}

/** Where there are disks that nothing has opened; none while the daemon starts. */
export function unopenedOf({ backend }: Controlled): DeviceAddress[] {
  return backend()?.unopened ?? [];
}

/** The disk that a client names, by what a client called it or its node, or see findDisk. Errors: DeviceNotFound, DeviceNotActive. */
export async function namedDisk(controlled: ControlContext, name: string): Promise<BlockDevice> {
  const found = await namedAddress(controlled, name);
  if ('statistics' in found) return found;
  const message = `${deviceName(found.address)} is not open: its guest has closed it, and has to connect to it anew`;
  throw QmpError.refusal(message, 'DeviceNotActive');
}

/** The same, also of a disk that is not open, or one of `more`, which have their addresses only. Error: DeviceNotFound. */
export async function namedAddress(
  controlled: ControlContext,
  name: string,
  more: readonly UnopenedDisk[] = [],
): Promise<BlockDevice | UnopenedDisk> {
  const { ids, nodes } = controlled;
  const id = ids.has(name) ? name : (nodes.userOf(name) ?? name);
  const unopened: UnopenedDisk[] = unopenedOf(controlled).map((address) => ({ address }));
  const known = [...disksOf(controlled), ...unopened];
  const names = new Set(known.map(({ address }) => deviceName(address)));
  try {
    return await findDisk<BlockDevice | UnopenedDisk>(ids.deviceOf(id), {
      devices: [...known, ...more.filter(({ address }) => !names.has(deviceName(address)))],
      ownDomid: controlled.backend()?.ownDomid ?? 0,
      nameOfDomain: (domid) => nameOfDomain(controlled.store(), domid),
    });
  } catch (error) {
    throw QmpError.refusal((error as Error).message, 'DeviceNotFound');
  }
}
