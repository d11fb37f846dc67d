import type { BlockDevice } from '@xenpv/xen-block';
import { deviceName, parseBackendPath } from '@xenpv/xenbus';
import { BlockdError } from '../errors.js';

/**
 * The disk that an operator names: by its name (`qdisk-5-51712`), its backend path or the end of it (`qdisk/5/51712`), or
 * its image, if that is one disk's only. Error: ERR_USAGE with the names there are.
 */
export function findDisk(devices: Iterable<BlockDevice>, name: string, ownDomid: number): BlockDevice {
  const all = [...devices];
  const found = all.filter((device) => isCalled(device, name, ownDomid));
  if (found.length === 1) return found[0];
  const names = (some: readonly BlockDevice[]) => some.map(({ address }) => deviceName(address)).join(', ');
  const message =
    found.length > 1
      ? `${name} is the image of more than one disk; name one of ${names(found)}`
      : `there is no disk ${name}; ${all.length === 0 ? 'there are no disks' : `the disks are ${names(all)}`}`;
  throw new BlockdError('ERR_USAGE', 'find disk', message);
}

function isCalled(device: BlockDevice, name: string, ownDomid: number): boolean {
  const { address, config, image } = device;
  const path = parseBackendPath(ownDomid, name);
  if (path && deviceName(path) === deviceName(address)) return true;
  return [deviceName(address), config?.target, image?.description].includes(name);
}
