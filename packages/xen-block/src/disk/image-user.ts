import type { ImageUser } from '@xenpv/blockdev';
import type { DiskConfig } from '../disk-description.js';

/** For whom a disk's image is locked, or undefined: mode `w!` shares it with anybody. */
export function imageUser({ shared, vm, vdev, address, incoming }: DiskConfig): ImageUser | undefined {
  if (shared) return undefined;
  const { type, domid, devid } = address;
  return {
    // What the other domain of the machine has begun must not come after what this one writes.
    owner: (incoming ? undefined : vm) ?? `domain ${domid}`,
    name: `${vdev} of domain ${domid} (backend/${type}/${domid}/${devid})`,
  };
}

/** A disk's name in each process that serves it, for `quietFor` of FileImageOptions. */
export function diskName({ vm, address }: DiskConfig): string {
  const { type, domid, devid } = address;
  return `${vm ?? 'a domain'} ${type}/${domid}/${devid}`;
}
