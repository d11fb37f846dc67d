import { formatVdev, toolstackKeys } from '@xenpv/blkif';
import type { DeviceAddress } from '@xenpv/xenbus';
import { readTree, type XenstoreOperations } from '@xenpv/xenstore';
import type { DiskConfig } from '../disk-description.js';
import { XenBlockError } from '../errors.js';

/** Reads the toolstack's keys from a backend's directory, in one transaction. */
export async function readDiskConfig(
  store: XenstoreOperations,
  path: string,
  address: DeviceAddress,
): Promise<DiskConfig> {
  const keys = await readTree(store, path, toolstackKeys);
  const deviceType = keys['device-type'] ?? 'disk';
  if (deviceType !== 'disk' && deviceType !== 'cdrom') {
    throw new XenBlockError('EINVAL', 'prepare', `device-type is "${deviceType}"; expected disk or cdrom`, {
      path: `${path}/device-type`,
    });
  }
  if (keys.params === undefined) {
    throw new XenBlockError('ENOENT', 'prepare', 'there is no params key that names an image', {
      path: `${path}/params`,
    });
  }
  return {
    address,
    vdev: keys.dev ?? formatVdev(address.devid),
    deviceType,
    ...parseParams(keys.params, address.type),
    readOnly: !keys.mode?.includes('w'),
    shared: keys.mode?.includes('!') ?? false,
    vm: await readVm(store, address),
    direct: keys['direct-io-safe'],
    discard: keys['discard-enable'],
  };
}

/** A driver domain may not read it, and then a domain is its own machine. */
async function readVm(store: XenstoreOperations, { domid }: DeviceAddress): Promise<string | undefined> {
  try {
    return await store.tryRead(`/local/domain/${domid}/vm`);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'EACCES') return undefined;
    throw error;
  }
}

/**
 * libxl writes `format:target` for qdisk and tap, where aio means raw, and the bare target for phy (type vbd). A
 * target that is an absolute path is never taken for a format.
 */
export function parseParams(params: string, type: string): { format: string; target: string } {
  const match = type === 'vbd' ? null : /^([a-z][a-z0-9+-]*):(.*)$/s.exec(params);
  if (!match) return { format: 'raw', target: params };
  const [, format, target] = match;
  return { format: format === 'aio' || format === 'empty' ? 'raw' : format, target };
}
