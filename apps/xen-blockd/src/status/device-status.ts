import type { BlockDevice, DiskStatistics } from '@xenpv/xen-block';
import { deviceName } from '@xenpv/xenbus';

/** One disk or drive as `xen-blockd list` and `stats` tell of it. Sizes are in bytes. */
export interface DeviceStatus {
  /** `qdisk-5-51712`. */
  readonly device: string;
  readonly type: string;
  readonly domid: number;
  readonly devid: number;
  readonly vdev: string | undefined;
  readonly deviceType: string | undefined;
  /** Undefined for a drive without a medium. */
  readonly image: string | undefined;
  readonly engine: string | undefined;
  readonly readOnly: boolean | undefined;
  readonly size: number | undefined;
  /** Whether a frontend is served. */
  readonly connected: boolean;
  readonly abi: string | undefined;
  readonly queues: number;
  readonly statistics: DiskStatistics;
}

export function deviceStatus(device: BlockDevice): DeviceStatus {
  const { address, config, image, negotiated } = device;
  return {
    device: deviceName(address),
    ...address,
    vdev: config?.vdev,
    deviceType: config?.deviceType,
    image: image?.description,
    engine: image?.engine,
    readOnly: config?.readOnly,
    size: image?.size,
    connected: negotiated !== undefined,
    abi: negotiated?.abi.name,
    queues: negotiated?.rings.length ?? 0,
    statistics: device.statistics(),
  };
}
