import type { BlockDevice } from '@xenpv/xen-block';
import { backendPath } from '@xenpv/xenbus';
import { type DiskReport, deviceStatus, type Observed, unopenedStatus } from '../../status/disks/device-status.js';
import type { Controlled, UnopenedDisk } from '../controlled.js';
import { nameOfDomain } from '../guest-names.js';

/** What the control socket tells of these disks. Each guest's name is read once. */
export async function reportsOf(
  controlled: Controlled,
  devices: readonly (BlockDevice | UnopenedDisk)[],
): Promise<DiskReport[]> {
  const store = controlled.store();
  const ownDomid = controlled.backend()?.ownDomid ?? 0;
  const domids = [...new Set(devices.map(({ address }) => address.domid))];
  const names = new Map(
    await Promise.all(domids.map(async (domid) => [domid, await nameOfDomain(store, domid)] as const)),
  );
  return devices.map((device) => ({
    ...statusOf(device, controlled.observedOf(device)),
    guest: names.get(device.address.domid),
    backendPath: backendPath(ownDomid, device.address),
  }));
}

function statusOf(device: BlockDevice | UnopenedDisk, observed: Observed) {
  return 'statistics' in device ? deviceStatus(device, observed) : unopenedStatus(device.address, observed);
}
