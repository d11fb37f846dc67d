import type { ImageExtent } from './block-image.js';

/**
 * The same extents, which begin at a sector, of whole sectors: one that is in several of them, or in a part of one that ends
 * there, has data.
 */
export function wholeSectorExtents(extents: readonly ImageExtent[], sectorSize: number): ImageExtent[] {
  const whole: ImageExtent[] = [];
  let [at, end] = [0, 0];
  const push = (to: number, { isHole, isZero }: Omit<ImageExtent, 'length'>) => {
    if (to > at) whole.push({ length: to - at, isHole, isZero });
    at = Math.max(at, to);
  };
  for (const extent of extents) {
    const begin = Math.ceil(end / sectorSize) * sectorSize;
    end += extent.length;
    if (extent.isHole || extent.isZero) {
      const last = Math.floor(end / sectorSize) * sectorSize;
      push(begin, DATA);
      if (last > begin) push(last, extent);
    } else {
      push(Math.ceil(end / sectorSize) * sectorSize, DATA);
    }
  }
  push(Math.ceil(end / sectorSize) * sectorSize, DATA);
  return whole;
}

const DATA = { isHole: false, isZero: false };
