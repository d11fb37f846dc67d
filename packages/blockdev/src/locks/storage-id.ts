import { type BigIntStats, fstat } from 'node:fs';
import { promisify } from 'node:util';

const statFile = promisify(fstat) as (fd: number, options: { bigint: true }) => Promise<BigIntStats>;

/** Which storage an open file is, by whatever name it was opened. */
export interface StorageId {
  /** The same for all names of one file or one block device. */
  readonly key: string;
  /** `fe:01:4711`, as /proc/locks has it: device of the file system, in hexadecimal, and inode. */
  readonly inode: string;
  /** `7:0`, of a block device. */
  readonly device: string | undefined;
}

/** Of a descriptor, whatever it was opened for. */
export async function storageId(fd: number): Promise<StorageId> {
  const stats = await statFile(fd, { bigint: true });
  const [major, minor] = deviceNumbers(stats.dev);
  const hex = (number: bigint) => number.toString(16).padStart(2, '0');
  const inode = `${hex(major)}:${hex(minor)}:${stats.ino}`;
  if (!stats.isBlockDevice()) return { key: `file ${stats.dev}:${stats.ino}`, inode, device: undefined };
  const device = deviceNumbers(stats.rdev).join(':');
  return { key: `device ${device}`, inode, device };
}

/** A dev_t has 12 bits of major above 8 of minor, and more minor bits above that. */
function deviceNumbers(dev: bigint): [major: bigint, minor: bigint] {
  return [(dev >> 8n) & 0xfffn, (dev & 0xffn) | ((dev >> 12n) & 0xfff00n)];
}
