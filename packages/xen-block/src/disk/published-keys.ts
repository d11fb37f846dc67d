import { deviceKeys, formatKeys, toolstackKeys, transportKeys, VdiskInfo } from '@xenpv/blkif';
import type { BlockImage } from '@xenpv/blockdev';
import type { XenstoreValues } from '@xenpv/xenbus';
import type { DiskConfig, DiskGeometry } from '../disk-description.js';
import { isHandedOver } from './incoming-image.js';
import type { ProtocolLimits } from './terms.js';

/** What goes with InitWait: what the frontend may choose from. All keys, as an earlier process may have offered more. */
export function transportValues(limits: ProtocolLimits, config: DiskConfig): XenstoreValues {
  const { maxRingPageOrder: order, maxQueues, maxIndirectSegments } = limits;
  const transport = formatKeys(transportKeys, {
    'multi-queue-max-queues': maxQueues,
    'max-ring-page-order': order,
    'max-ring-pages': 2 ** order,
    'feature-max-indirect-segments': maxIndirectSegments,
  });
  // Nobody's script does it for qdisk, and xenopsd waits for it.
  const status = config.address.type === 'qdisk' ? 'connected' : undefined;
  const incoming = isHandedOver(config) ? true : undefined;
  return { ...transport, ...formatKeys(toolstackKeys, { 'hotplug-status': status, incoming }) };
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
  // A process after this one finds a disk like any other.
  const incoming = isHandedOver(config) ? false : undefined;
  const values = formatKeys(deviceKeys, {
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
  return { ...values, ...formatKeys(toolstackKeys, { incoming }) };
}

function diskInfo(config: DiskConfig, geometry: DiskGeometry): number {
  const cdrom = config.deviceType === 'cdrom' ? VdiskInfo.cdrom | VdiskInfo.removable : 0;
  return cdrom | (geometry.readOnly ? VdiskInfo.readOnly : 0);
}
