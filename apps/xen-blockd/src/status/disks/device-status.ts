import { formatVdev } from '@xenpv/blkif';
import {
  type BlockDevice,
  type DiskGeometry,
  type DiskStatistics,
  type DiskStop,
  formatRateLimits,
  type OnError,
  readStatistics,
} from '@xenpv/xen-block';
import { type DeviceAddress, deviceName, type HeldDevice } from '@xenpv/xenbus';
import type { Averages } from './averages.js';
import type { DiskErrors } from './disk-errors.js';

/** What is offered to the guest beside reading and writing. */
export type DiskFeatures = Pick<DiskGeometry, 'flush' | 'discard' | 'secureDiscard' | 'maxIndirectSegments'>;

/** One disk or drive as `xen-blockd list`, `show` and `stats` tell of it. Sizes are in bytes, dates in ISO's form. */
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
  /** What the toolstack's params name, whether it could be opened or not; empty for a drive without a medium, undefined if not read. */
  readonly target: string | undefined;
  /** Why the medium of a drive could not be loaded: the drive is empty, and it is tried again. */
  readonly mediumTrouble: string | undefined;
  /** As the toolstack says it: `raw`, `qcow2`. */
  readonly format: string | undefined;
  readonly engine: string | undefined;
  /** Which storage it is, by whatever name: `file 65024:4711`. Undefined where nothing tells one from another. */
  readonly identity: string | undefined;
  readonly readOnly: boolean | undefined;
  /** Mode `w!`: the image is not locked, and others may write it. */
  readonly shared: boolean | undefined;
  readonly size: number | undefined;
  /** What the guest sees: 512 or 4096. */
  readonly sectorSize: number | undefined;
  readonly features: DiskFeatures | undefined;
  /** Whether a frontend is served. */
  readonly connected: boolean;
  /** Since when a frontend is served; where none is, since when it is waited for. Undefined for a disk that is not open. */
  readonly since: string | undefined;
  readonly abi: string | undefined;
  readonly queues: number;
  /** Pages of each ring; 0 while no frontend is connected. */
  readonly ringPages: number;
  /** What is done when the storage fails a request. */
  readonly onError: OnError | undefined;
  /** What the disk may do in a second, as parseRateLimits takes it, and all disks of its guest together. */
  readonly limits: string;
  readonly guestLimits: string;
  /** Since when the disk takes no requests, because somebody has said `pause`. */
  readonly paused: string | undefined;
  /** Why an error of the storage has stopped the disk. */
  readonly stopped: (Omit<DiskStop, 'since'> & { readonly since: string }) | undefined;
  /** Why a disk whose frontend is connected cannot be served now. It is tried again. */
  readonly held: (Omit<HeldDevice, 'since'> & { readonly since: string }) | undefined;
  /** Why its guest does not get it, and what went wrong last. An older daemon does not say it. */
  readonly refused: DiskErrors['refused'];
  readonly lastError: DiskErrors['lastError'];
  readonly lastStorageError: DiskErrors['lastStorageError'];
  /** Since when xenstored does not know the disk, which is served on. */
  readonly orphanedSince: string | undefined;
  /** Milliseconds that the oldest request is in flight, short by up to a second; 0 for none. */
  readonly oldestRequestMs: number;
  /** In the answer to `resume`: whether the disk was stopped before. */
  readonly wasStopped?: boolean;
  readonly statistics: DiskStatistics;
  /** Of the last minutes. An older daemon does not say it. */
  readonly averages: Averages | undefined;
}

/** What the daemon has seen of a disk. */
export interface Observed extends DiskErrors {
  readonly averages?: Averages | undefined;
}

/** A disk as the control socket tells of it: with what is known of its guest. */
export interface DiskReport extends DeviceStatus {
  /** The guest's name, where it has one that may be read. */
  readonly guest: string | undefined;
  /** Its directory in xenstore. */
  readonly backendPath: string;
}

export function deviceStatus(
  device: BlockDevice,
  { refused, lastError, lastStorageError, averages }: Observed,
): DeviceStatus {
  const { address, config, limits, stopped, held, oldestRequestMs } = device;
  return {
    device: deviceName(address),
    ...address,
    vdev: config?.vdev,
    ...imageStatus(device),
    ...connectionStatus(device),
    onError: device.onError,
    limits: formatRateLimits(limits.disk),
    guestLimits: formatRateLimits(limits.guest),
    paused: device.paused?.toISOString(),
    stopped: stopped && { ...stopped, since: stopped.since.toISOString() },
    held: held && { ...held, since: held.since.toISOString() },
    refused,
    lastError,
    lastStorageError,
    orphanedSince: device.orphanedSince?.toISOString(),
    oldestRequestMs: Math.round(oldestRequestMs),
    statistics: device.statistics(),
    averages,
  };
}

/** Of a disk that nothing has opened: its frontend had closed it before this process found it. */
export function unopenedStatus(
  address: DeviceAddress,
  { refused, lastError, lastStorageError, averages }: Observed,
): DeviceStatus {
  return {
    device: deviceName(address),
    ...address,
    vdev: formatVdev(address.devid),
    ...imageStatus({}),
    ...connectionStatus({}),
    onError: undefined,
    limits: formatRateLimits({}),
    guestLimits: formatRateLimits({}),
    paused: undefined,
    stopped: undefined,
    held: undefined,
    refused,
    lastError,
    lastStorageError,
    orphanedSince: undefined,
    oldestRequestMs: 0,
    statistics: readStatistics([]),
    averages,
  };
}

function imageStatus({ config, image, geometry, mediumTrouble }: Partial<BlockDevice>) {
  const { flush = false, discard = false, secureDiscard = false, maxIndirectSegments = 0 } = geometry ?? {};
  return {
    deviceType: config?.deviceType,
    image: image?.description,
    target: config?.target,
    mediumTrouble,
    format: config?.format,
    engine: image?.engine,
    identity: image?.identity,
    readOnly: config?.readOnly,
    shared: config?.shared,
    size: image?.size,
    sectorSize: geometry?.sectorSize,
    features: geometry && { flush, discard, secureDiscard, maxIndirectSegments },
  };
}

function connectionStatus({ negotiated, since }: Partial<BlockDevice>) {
  return {
    connected: negotiated !== undefined,
    since: since?.toISOString(),
    abi: negotiated?.abi.name,
    queues: negotiated?.rings.length ?? 0,
    ringPages: negotiated?.rings[0]?.refs.length ?? 0,
  };
}
