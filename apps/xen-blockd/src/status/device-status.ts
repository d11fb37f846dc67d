import { type BlockDevice, type DiskStatistics, type DiskStop, formatRateLimits, type OnError } from '@xenpv/xen-block';
import { deviceName, type HeldDevice } from '@xenpv/xenbus';

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
  /** What is done when the storage fails a request. */
  readonly onError: OnError | undefined;
  /** What the disk may do in a second, as parseRateLimits takes it, and all disks of its guest together. */
  readonly limits: string;
  readonly guestLimits: string;
  /** Why an error of the storage has stopped the disk; `since` is an ISO date. */
  readonly stopped: (Omit<DiskStop, 'since'> & { readonly since: string }) | undefined;
  /** Why a disk whose frontend is connected cannot be served now; `since` is an ISO date. It is tried again. */
  readonly held: (Omit<HeldDevice, 'since'> & { readonly since: string }) | undefined;
  /** Since when xenstored does not know the disk, which is served on: an ISO date. */
  readonly orphanedSince: string | undefined;
  /** Milliseconds that the oldest request is in flight, short by up to a second; 0 for none. */
  readonly oldestRequestMs: number;
  /** In the answer to `resume`: whether the disk was stopped before. */
  readonly wasStopped?: boolean;
  readonly statistics: DiskStatistics;
}

export function deviceStatus(device: BlockDevice): DeviceStatus {
  const { address, config, image, negotiated, onError, limits, stopped, held } = device;
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
    onError,
    limits: formatRateLimits(limits.disk),
    guestLimits: formatRateLimits(limits.guest),
    stopped: stopped && { ...stopped, since: stopped.since.toISOString() },
    held: held && { ...held, since: held.since.toISOString() },
    orphanedSince: device.orphanedSince?.toISOString(),
    oldestRequestMs: Math.round(device.oldestRequestMs),
    statistics: device.statistics(),
  };
}
