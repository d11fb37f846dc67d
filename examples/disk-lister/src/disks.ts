import { formatVdev, SECTOR_SIZE } from '@xenpv/blkif';
import { parseParams } from '@xenpv/xen-block';
import { backendPath, type DeviceAddress, domainPath, stateField, stateName, XenbusState } from '@xenpv/xenbus';
import { readTree, treeSchema, type XenstoreClient } from '@xenpv/xenstore';

/** What serves blkif, below `backend/`: xl writes `phy` disks as vbd, `tap` disks as vbd3. */
const TYPES = ['vbd', 'vbd3', 'qdisk'];

/** Texts, so that one disk whose keys make no sense does not hide the others. */
const KEYS = treeSchema({
  state: stateField,
  dev: { type: 'string', optional: true },
  mode: { type: 'string', default: '' },
  params: { type: 'string', default: '' },
  sectors: { type: 'string', default: '' },
});

/** A disk, as its backend's directory tells: the frontend's is the guest's, which could write anything there. */
export type Disk = NonNullable<Awaited<ReturnType<typeof readDisk>>>;

async function readDisk(store: XenstoreClient, backendDomid: number, address: DeviceAddress, signal: AbortSignal) {
  const keys = await readTree(store, backendPath(backendDomid, address), KEYS, { signal });
  if (keys.state === XenbusState.unknown) return undefined; // gone since it was listed
  const guest = await store.tryRead(`${domainPath(address.domid)}/name`, { signal });
  return {
    ...{ guest: guest ?? null, domid: address.domid, vdev: keys.dev ?? formatVdev(address.devid) },
    ...{ backendDomid, backendType: address.type, state: stateName(keys.state) },
    size: /^\d+$/.test(keys.sectors) ? Number(keys.sectors) * SECTOR_SIZE : null, // not there before Connected
    ...{ mode: keys.mode.includes('w') ? 'w' : 'r', ...parseParams(keys.params, address.type) },
  };
}

/** All disks of the host, by their backends' paths. */
export async function listDisks(store: XenstoreClient, signal: AbortSignal): Promise<ReadonlyMap<string, Disk>> {
  const disks = new Map<string, Disk>();
  const numbersBelow = async (path: string) =>
    ((await store.tryDirectory(path, { signal })) ?? []).filter((name) => /^\d+$/.test(name)).map(Number);
  for (const backendDomid of await numbersBelow('/local/domain')) {
    for (const type of TYPES) {
      const folder = `${domainPath(backendDomid)}/backend/${type}`;
      for (const domid of await numbersBelow(folder)) {
        for (const devid of await numbersBelow(`${folder}/${domid}`)) {
          const disk = await readDisk(store, backendDomid, { type, domid, devid }, signal);
          if (disk !== undefined) disks.set(`${folder}/${domid}/${devid}`, disk);
        }
      }
    }
  }
  return disks;
}

/** Whether a change of this node can change what {@link listDisks} gives. */
export const concernsDisks = (path: string) =>
  /^\/local\/domain(\/\d+(\/name|\/backend(\/(vbd3?|qdisk)(\/.*)?)?)?)?$/.test(path);
