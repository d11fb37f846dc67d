import { SECTOR_SIZE } from '@xenpv/blkif';
import type { BlockImage } from '@xenpv/blockdev';
import type { DiskConfig, DiskGeometry } from '../disk-description.js';
import type { ProtocolLimits } from './limits.js';

/** What requests to this image are checked against; without an image a drive of no sectors. */
export function diskGeometry(image: BlockImage | undefined, config: DiskConfig, limits: ProtocolLimits): DiskGeometry {
  const { maxIndirectSegments } = limits;
  if (!image) {
    return {
      sectors: 0,
      sectorSize: SECTOR_SIZE,
      readOnly: config.readOnly,
      flush: true,
      discard: false,
      secureDiscard: false,
      maxIndirectSegments,
    };
  }
  const readOnly = config.readOnly || image.readOnly;
  const discard = image.features.discard && !readOnly && config.discard !== false;
  return {
    sectors: Math.floor(image.size / image.sectorSize) * (image.sectorSize / SECTOR_SIZE),
    sectorSize: image.sectorSize,
    readOnly,
    flush: image.features.flush,
    discard,
    secureDiscard: discard && image.features.secureDiscard,
    maxIndirectSegments,
  };
}
