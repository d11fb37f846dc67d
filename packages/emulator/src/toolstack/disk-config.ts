import type { Domid } from '@xenpv/xen-sys';
/** Which backend a disk is for (`backendtype=` in xl-disk-configuration(5)). */
export type BackendType = 'qdisk' | 'phy' | 'tap';

/** A disk as xl-disk-configuration(5) describes it. */
export interface XlDisk {
  /** The virtual device: `xvda`, `hdc`, `d1p2`, `51712`. */
  readonly vdev: string;
  /** What is behind it. Only the backend interprets it. */
  readonly target: string;
  /** The domain that serves it; 0 unless told otherwise. */
  readonly backendDomid?: Domid | undefined;
  /** `qdisk` unless told otherwise. */
  readonly backendType?: BackendType | undefined;
  /** `raw` unless told otherwise; part of qdisk's and tap's params. */
  readonly format?: 'raw' | 'qcow' | 'qcow2' | 'vhd' | 'qed' | undefined;
  /** Makes `mode` `r` instead of `w`; false by default. A cdrom is `r` in any case. */
  readonly readOnly?: boolean | undefined;
  /** The `device-type` key; `disk` unless told otherwise. A `cdrom` also has `removable` 1. */
  readonly deviceType?: 'disk' | 'cdrom' | undefined;
  /** Whether the guest may discard; if it may write, unless told otherwise. */
  readonly discard?: boolean | undefined;
  /** Writes `direct-io-safe` 1: the backend need not avoid O_DIRECT. By default there is no such key. */
  readonly directIoSafe?: boolean | undefined;
  /** Whether the guest may trust the backend (`trusted=`); it may, unless told otherwise. */
  readonly trusted?: boolean | undefined;
  /** The `protocol` key that libxl writes for PV guests. */
  readonly protocol?: string | undefined;
  /** Keys besides xl's own, or instead of them, in the backend's directory. */
  readonly backendKeys?: Readonly<Record<string, string | number>> | undefined;
}

/** The directory under `backend/`, and libxl's name of the type, for each backend type. */
const KINDS = {
  qdisk: { directory: 'qdisk', type: 'qdisk' },
  phy: { directory: 'vbd', type: 'phy' },
  tap: { directory: 'vbd3', type: 'vbd3' },
} as const satisfies Record<BackendType, { directory: string; type: string }>;

const SCRIPTS = { tap: '/etc/xen/scripts/block-tap', phy: '/etc/xen/scripts/block' };

export function backendTypeOf(disk: XlDisk): BackendType {
  return disk.backendType ?? 'qdisk';
}

/** The directory under `backend/` for disks of this type. */
export function backendDirectory(backendType: BackendType): string {
  return KINDS[backendType].directory;
}

/** The keys that say what the disk is, as libxl writes them for the backend (device_disk_add). */
export function backendKeysOf(disk: XlDisk): Record<string, string | number> {
  const backendType = backendTypeOf(disk);
  const cdrom = disk.deviceType === 'cdrom';
  const writable = disk.readOnly !== true && !cdrom;
  return {
    dev: disk.vdev,
    type: KINDS[backendType].type,
    mode: writable ? 'w' : 'r',
    'device-type': disk.deviceType ?? 'disk',
    ...(disk.directIoSafe ? { 'direct-io-safe': 1 } : {}),
    'discard-enable': (disk.discard ?? writable) ? 1 : 0,
    specification: 'xen',
    params: paramsOf(disk),
    ...(backendType === 'qdisk' ? {} : { script: SCRIPTS[backendType] }),
    ...disk.backendKeys,
  };
}

/** The `params` key: the target, with its format in front for the backends that need to be told. */
export function paramsOf(disk: XlDisk): string {
  if (backendTypeOf(disk) === 'phy') return disk.target;
  const format = disk.format ?? 'raw';
  return `${format === 'raw' ? 'aio' : format}:${disk.target}`;
}

/** The keys that the frontend is told besides those of every device. */
export function frontendKeysOf(disk: XlDisk): Record<string, string | number> {
  return {
    'device-type': disk.deviceType ?? 'disk',
    trusted: (disk.trusted ?? true) ? 1 : 0,
    ...(disk.protocol === undefined ? {} : { protocol: disk.protocol }),
  };
}
