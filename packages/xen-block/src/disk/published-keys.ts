import {
  deviceKeys,
  formatKeys,
  MAX_INDIRECT_PAGES,
  SECTOR_SIZE,
  SEGMENTS_PER_INDIRECT_PAGE,
  toolstackKeys,
  transportKeys,
  VdiskInfo,
} from '@xenpv/blkif';
import type { BlockImage } from '@xenpv/blockdev';
import type { XenstoreValues } from '@xenpv/xenbus';
import type { DiskGeometry } from '../plane/requests/check.js';
import type { DiskConfig } from './config.js';

/** What may be offered to frontends. */
export interface ProtocolLimits {
  /** Rings of up to 2^order pages. 4, as much as Linux uses. */
  readonly maxRingPageOrder: number;
  /** Rings of one disk. */
  readonly maxQueues: number;
  /** Segments of an indirect request, up to 4096; 0 for none. 256, as Linux. */
  readonly maxIndirectSegments: number;
}

/** The most that the protocol can carry. */
export const MAX_INDIRECT_SEGMENTS = MAX_INDIRECT_PAGES * SEGMENTS_PER_INDIRECT_PAGE;

/** What goes with InitWait: what the frontend may choose from. */
export function transportValues(limits: ProtocolLimits, config: DiskConfig): XenstoreValues {
  const { maxRingPageOrder: order, maxQueues, maxIndirectSegments } = limits;
  const transport = formatKeys(transportKeys, {
    'multi-queue-max-queues': maxQueues,
    'max-ring-page-order': order > 0 ? order : undefined,
    'max-ring-pages': order > 0 ? 2 ** order : undefined,
    'feature-max-indirect-segments': maxIndirectSegments > 0 ? maxIndirectSegments : undefined,
  });
  // Nobody's script does it for qdisk, and xenopsd waits for it.
  const status = config.address.type === 'qdisk' ? 'connected' : undefined;
  return { ...transport, ...formatKeys(toolstackKeys, { 'hotplug-status': status }) };
}

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

/** What goes with Connected: the disk. `sectors` counts 512 bytes, whatever the sector size. */
export function deviceValues(
  image: BlockImage | undefined,
  config: DiskConfig,
  geometry: DiskGeometry,
  persistent: boolean,
): XenstoreValues {
  // Linux's blkfront takes discard only with both its granularity and its alignment.
  const discard = geometry.discard ? image?.features : undefined;
  return formatKeys(deviceKeys, {
    sectors: geometry.sectors,
    'sector-size': geometry.sectorSize,
    'physical-sector-size': image?.physicalSectorSize ?? geometry.sectorSize,
    info: diskInfo(config, geometry),
    'feature-flush-cache': geometry.flush,
    'feature-barrier': geometry.flush,
    'feature-persistent': persistent,
    'feature-discard': discard !== undefined,
    'discard-granularity': discard?.discardGranularity,
    'discard-alignment': discard?.discardAlignment,
    'discard-secure': discard && geometry.secureDiscard,
  });
}

function diskInfo(config: DiskConfig, geometry: DiskGeometry): number {
  const cdrom = config.deviceType === 'cdrom' ? VdiskInfo.cdrom | VdiskInfo.removable : 0;
  return cdrom | (geometry.readOnly ? VdiskInfo.readOnly : 0);
}
