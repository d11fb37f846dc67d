import { decodeVdev, formatVdev, vdevOfDisk } from '@xenpv/blkif';
import type { Domid } from '@xenpv/xen-sys';
import type { OperationOptions, XenstoreOperations } from '@xenpv/xenstore';
import { XenBlockError } from '../errors.js';

/** As many as QEMU looks at. */
const DISKS = 4096;

/**
 * The first vdev, as `xvdN`, whose disk number no disk of a domain uses, whatever it is called there: a guest may know
 * hda, sda and xvda as the same disk. Partitions count as their disk.
 */
export async function firstFreeVdev(
  store: XenstoreOperations,
  domid: Domid,
  options: OperationOptions = {},
): Promise<string> {
  const numbers = (await store.tryDirectory(`/local/domain/${domid}/device/vbd`, options)) ?? [];
  const used = new Set(numbers.map((number) => decodeVdev(Number(number))?.disk));
  for (let disk = 0; disk < DISKS; disk++) if (!used.has(disk)) return formatVdev(vdevOfDisk(disk).number);
  throw new XenBlockError('ENOSPC', 'firstFreeVdev', `domain ${domid} has ${DISKS} disks already`);
}
