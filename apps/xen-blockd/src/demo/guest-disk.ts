import type { Blkfront } from '@xenpv/blkfront';
import type { NbdDisk } from '@xenpv/nbd';

/** A guest's disk as an NBD export. */
export function guestNbdDisk(disk: Blkfront): NbdDisk {
  const exported: NbdDisk = {
    size: disk.size,
    blockSize: disk.sectorSize,
    readOnly: disk.readOnly,
    read: (offset, length) => disk.read(offset, length),
    write: (offset, data) => disk.write(offset, data),
    flush: () => disk.flush(),
  };
  if (disk.features.discard) exported.discard = (offset, length) => disk.discard(offset, length);
  return exported;
}
