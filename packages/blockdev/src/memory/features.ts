import type { BlockFeatures, BlockImage } from '../block-image.js';

/** What an image without a device behind it can do: everything, in sectors, unless it is read-only. */
export function memoryFeatures({ sectorSize, readOnly }: Pick<BlockImage, 'sectorSize' | 'readOnly'>): BlockFeatures {
  return {
    flush: true,
    fua: true,
    discard: !readOnly,
    secureDiscard: !readOnly,
    writeZeroes: !readOnly,
    discardGranularity: readOnly ? 0 : sectorSize,
    discardAlignment: 0,
  };
}
