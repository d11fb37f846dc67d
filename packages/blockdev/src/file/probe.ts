import { readFileSync, type Stats } from 'node:fs';

/** What the file system or the kernel says about a file or block device. Sizes in bytes. */
export interface StorageFacts {
  readonly blockDevice: boolean;
  readonly size: number;
  readonly logicalSectorSize: number;
  readonly physicalSectorSize: number;
  readonly discardGranularity: number;
  readonly discardAlignment: number;
  /** Block devices: whether the device says that it can discard. Files: true, to be tried out. */
  readonly mayDiscard: boolean;
  /** The device takes no writes, although it may be opened for them. */
  readonly writeProtected: boolean;
}

/** What `stats` (of the open image) and sysfs know. */
export function storageFacts(stats: Stats): StorageFacts {
  if (stats.isBlockDevice()) return deviceFacts(stats.rdev);
  return {
    blockDevice: false,
    size: stats.size,
    logicalSectorSize: 512,
    physicalSectorSize: Math.min(4096, Math.max(512, stats.blksize)),
    discardGranularity: Math.max(512, stats.blksize),
    discardAlignment: 0,
    mayDiscard: true,
    writeProtected: false,
  };
}

/** The size alone, for `refresh`. */
export function storageSize(stats: Stats): number {
  return stats.isBlockDevice() ? sysfsNumber(`${sysfsFolder(stats.rdev)}/size`, 0) * 512 : stats.size;
}

function deviceFacts(rdev: number): StorageFacts {
  const folder = sysfsFolder(rdev);
  const queue = sysfsNumber(`${folder}/partition`, 0) > 0 ? `${folder}/../queue` : `${folder}/queue`;
  const logicalSectorSize = sysfsNumber(`${queue}/logical_block_size`, 512);
  return {
    blockDevice: true,
    size: sysfsNumber(`${folder}/size`, 0) * 512,
    logicalSectorSize,
    physicalSectorSize: sysfsNumber(`${queue}/physical_block_size`, logicalSectorSize),
    discardGranularity: sysfsNumber(`${queue}/discard_granularity`, 0),
    discardAlignment: Math.max(0, sysfsNumber(`${folder}/discard_alignment`, 0)),
    mayDiscard: sysfsNumber(`${queue}/discard_max_bytes`, 0) > 0,
    writeProtected: sysfsNumber(`${folder}/ro`, 0) > 0,
  };
}

/** sysfs names devices by number; a dev_t has 12 bits of major above 8 of minor, and more minor bits above that. */
function sysfsFolder(rdev: number): string {
  const major = Math.floor(rdev / 256) % 4096;
  const minor = (rdev % 256) + Math.floor(rdev / 2 ** 20) * 256;
  return `/sys/dev/block/${major}:${minor}`;
}

function sysfsNumber(path: string, otherwise: number): number {
  try {
    return Number(readFileSync(path, 'latin1'));
  } catch {
    return otherwise;
  }
}
