import { VdiskInfo } from '@xenpv/blkif';
import type { BlockImage } from '@xenpv/blockdev';
import type { XenstoreValues } from '@xenpv/xenbus';
import type { DiskConfig, DiskGeometry } from '../disk-description.js';
import type { ProtocolLimits } from './limits.js';

/** What goes with InitWait: what the frontend may choose from. */
export function transportValues(limits: ProtocolLimits, config: DiskConfig): XenstoreValues {
  const values: Record<string, string | number> = { 'multi-queue-max-queues': limits.maxQueues };
  if (limits.maxRingPageOrder > 0) {
    values['max-ring-page-order'] = limits.maxRingPageOrder;
    values['max-ring-pages'] = 2 ** limits.maxRingPageOrder;
  }
  if (limits.maxIndirectSegments > 0) values['feature-max-indirect-segments'] = limits.maxIndirectSegments;
  // Nobody's script does it for qdisk, and xenopsd waits for it.
  if (config.address.type === 'qdisk') values['hotplug-status'] = 'connected';
  return values;
}

/** What goes with Connected: the disk. `sectors` counts 512 bytes, whatever the sector size. */
export function deviceValues(
  image: BlockImage | undefined,
  config: DiskConfig,
  geometry: DiskGeometry,
  persistent: boolean,
): XenstoreValues {
  return {
    sectors: geometry.sectors,
    'sector-size': geometry.sectorSize,
    'physical-sector-size': image?.physicalSectorSize ?? geometry.sectorSize,
    info: diskInfo(config, geometry),
    'feature-flush-cache': geometry.flush,
    'feature-barrier': geometry.flush,
    'feature-persistent': persistent,
    ...discardValues(image, geometry),
  };
}

/** Linux's blkfront takes discard only with both its granularity and its alignment. */
function discardValues(image: BlockImage | undefined, geometry: DiskGeometry): XenstoreValues {
  if (!geometry.discard || !image) return { 'feature-discard': false };
  return {
    'feature-discard': true,
    'discard-granularity': image.features.discardGranularity,
    'discard-alignment': image.features.discardAlignment,
    'discard-secure': geometry.secureDiscard,
  };
}

function diskInfo(config: DiskConfig, geometry: DiskGeometry): number {
  const cdrom = config.deviceType === 'cdrom' ? VdiskInfo.cdrom | VdiskInfo.removable : 0;
  return cdrom | (geometry.readOnly ? VdiskInfo.readOnly : 0);
}
