import { formatVdev } from '@xenpv/blkif';
import type { BlockDevice } from '@xenpv/xen-block';
import { deviceName, parseBackendPath } from '@xenpv/xenbus';
import { BlockdError } from '../../errors.js';

/** What a disk can be named by. One that is not open has its address. */
export type NamedDisk = Pick<BlockDevice, 'address'> & Partial<Pick<BlockDevice, 'config' | 'image'>>;

/** Where names are looked for. */
export interface DiskNames<D extends NamedDisk = NamedDisk> {
  readonly devices: readonly D[];
  readonly ownDomid: number;
  /** The name of a domain, or undefined where it has none that may be read. */
  readonly nameOfDomain: (domid: number) => Promise<string | undefined>;
}

/**
 * The disk that an operator names: by its guest and vdev (`web1:xvda`, `5:xvda`), its name (`qdisk-5-51712`), its backend
 * path or the end of it (`qdisk/5/51712`), or its image, if that is one disk's only. Error: ERR_USAGE with the names there
 * are.
 */
export async function findDisk<D extends NamedDisk>(name: string, names: DiskNames<D>): Promise<D> {
  const { devices, ownDomid } = names;
  const called = devices.filter((device) => isCalled(device, name, ownDomid));
  const found = called.length > 0 ? called : await ofGuest(name, names);
  if (found.length === 1) return found[0];
  const listed = (some: readonly NamedDisk[]) => some.map(({ address }) => deviceName(address)).join(', ');
  const message =
    found.length > 1
      ? `${name} is more than one disk; name one of ${listed(found)}`
      : `there is no disk ${name}; ${devices.length === 0 ? 'there are no disks' : `the disks are ${listed(devices)}`}`;
  throw new BlockdError('ERR_USAGE', 'find disk', message);
}

function isCalled(device: NamedDisk, name: string, ownDomid: number): boolean {
  const { address, config, image } = device;
  const path = parseBackendPath(ownDomid, name);
  if (path && deviceName(path) === deviceName(address)) return true;
  return [deviceName(address), config?.target, image?.description].includes(name);
}

/** By `guest:vdev`. A guest's name may have a colon too. */
async function ofGuest<D extends NamedDisk>(name: string, { devices, nameOfDomain }: DiskNames<D>): Promise<D[]> {
  const colon = name.lastIndexOf(':');
  const [guest, vdev] = [name.slice(0, colon), name.slice(colon + 1)];
  if (colon < 1) return [];
  const candidates = devices.filter(({ address, config }) => (config?.vdev ?? formatVdev(address.devid)) === vdev);
  const domids = await Promise.all(
    candidates.map(async ({ address: { domid } }) => String(domid) === guest || (await nameOfDomain(domid)) === guest),
  );
  return candidates.filter((_, i) => domids[i]);
}
