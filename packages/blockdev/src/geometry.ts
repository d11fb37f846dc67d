import { BlockDeviceError } from './errors.js';

/** Throws ERR_IMAGE_EMPTY or ERR_IMAGE_UNALIGNED when `size` bytes are not a whole number of sectors. */
export function checkGeometry(size: number, sectorSize: number, what: string): void {
  if (!(sectorSize >= 512) || !Number.isInteger(Math.log2(sectorSize))) {
    throw new BlockDeviceError(
      'ERR_SECTOR_SIZE',
      'open',
      `sector size ${sectorSize} is not a power of two from 512 on`,
    );
  }
  if (size === 0)
    throw new BlockDeviceError('ERR_IMAGE_EMPTY', 'open', `${what} is empty: a disk has at least one sector`);
  if (size % sectorSize === 0) return;
  throw new BlockDeviceError(
    'ERR_IMAGE_UNALIGNED',
    'open',
    `${what} has ${size} bytes, not a multiple of ${sectorSize}: the last ${size % sectorSize} bytes would be out of reach`,
  );
}
