import { reportOddSize } from './diagnostics.js';
import { BlockDeviceError } from './errors.js';

/** Throws ERR_SECTOR_SIZE, ERR_IMAGE_EMPTY, EFBIG, or ERR_IMAGE_UNALIGNED when `size` bytes are not whole sectors. */
export function checkGeometry(size: number, sectorSize: number, what: string): void {
  checkNotEmpty(size, sectorSize, what);
  if (size % sectorSize === 0) return;
  throw unaligned(`${what} has ${size} bytes, not a multiple of ${sectorSize}`, what);
}

/**
 * The bytes of an image's whole sectors: storage may end within one, as a copy that was cut short does, and is served
 * up to there. Tells so on `blockdev:image:odd-size`. Throws ERR_SECTOR_SIZE, ERR_IMAGE_EMPTY, EFBIG, or ERR_IMAGE_UNALIGNED
 * when there is not one whole sector.
 */
export function wholeSectors(size: number, sectorSize: number, path: string): number {
  checkNotEmpty(size, sectorSize, path);
  const served = size - (size % sectorSize);
  if (served === 0) throw unaligned(`${path} has ${size} bytes, less than one sector of ${sectorSize}`, path);
  if (served < size) reportOddSize({ path, size, served, sectorSize });
  return served;
}

function checkNotEmpty(size: number, sectorSize: number, what: string): void {
  if (!(sectorSize >= 512) || !Number.isInteger(Math.log2(sectorSize))) {
    const message = `sector size ${sectorSize} is not a power of two from 512 on`;
    throw new BlockDeviceError('ERR_SECTOR_SIZE', 'open', message);
  }
  if (size > Number.MAX_SAFE_INTEGER) {
    const message = `${what} has ${size} bytes, more than can be counted exactly: 8 PiB`;
    throw new BlockDeviceError('EFBIG', 'open', message, { path: what });
  }
  if (size > 0) return;
  throw new BlockDeviceError('ERR_IMAGE_EMPTY', 'open', `${what} is empty: a disk has at least one sector`, {
    path: what,
  });
}

function unaligned(message: string, path: string): BlockDeviceError {
  return new BlockDeviceError('ERR_IMAGE_UNALIGNED', 'open', message, { path });
}
