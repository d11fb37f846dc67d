import { SECTOR_SIZE } from '@xenpv/blkif';
import type { BlockImage } from '@xenpv/blockdev';
import type { DiskConfig, DiskGeometry } from '../disk-description.js';
import type { ConnectionTerms } from './terms.js';

/**
 * What requests to this image are checked against; without an image a drive of no sectors. Whatever the terms promise
 * and the image cannot do is off, so that each request for it is refused as unsupported.
 */
export function diskGeometry(image: BlockImage | undefined, config: DiskConfig, terms: ConnectionTerms): DiskGeometry {
  const { told } = terms;
  const { maxIndirectSegments } = terms.limits;
  if (!image) {
    return {
      sectors: 0,
      sectorSize: told?.sectorSize ?? SECTOR_SIZE,
      readOnly: config.readOnly,
      flush: true,
      discard: false,
      secureDiscard: false,
      maxIndirectSegments,
    };
  }
  const readOnly = config.readOnly || image.readOnly;
  const sectorSize = Math.max(image.sectorSize, told?.sectorSize ?? 0);
  // A secure discard that is done as a plain one would break a promise.
  const secureIsLost = told?.secureDiscard === true && !image.features.secureDiscard;
  const discard = image.features.discard && !readOnly && config.discard !== false && !secureIsLost;
  return {
    sectors: Math.floor(image.size / sectorSize) * (sectorSize / SECTOR_SIZE),
    sectorSize,
    readOnly,
    flush: image.features.flush,
    discard,
    secureDiscard: discard && image.features.secureDiscard,
    maxIndirectSegments,
  };
}
