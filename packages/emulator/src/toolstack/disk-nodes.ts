import type { Permission, XenstoreOperations } from '@xenpv/xenstore';
import { domainPath } from './domain-nodes.js';

/** Which backend a disk is for (`backendtype=` in xl-disk-configuration(5)). */
export type BackendType = 'qdisk' | 'phy' | 'tap';

/** A disk as xl-disk-configuration(5) describes it. */
export interface DiskConfig {
  /** The virtual device: `xvda`, `hdc`, `d1p2`, `51712`. */
  readonly vdev: string;
  /** What is behind it. Only the backend interprets it. */
  readonly target: string;
  /** The domain that serves it; 0 unless told otherwise. */
  readonly backendDomid?: number;
  /** `qdisk` unless told otherwise. */
  readonly backendType?: BackendType;
  /** `raw` unless told otherwise; part of qdisk's and tap's params. */
  readonly format?: 'raw' | 'qcow' | 'qcow2' | 'vhd' | 'qed';
  readonly readOnly?: boolean;
  readonly deviceType?: 'disk' | 'cdrom';
  /** Whether the guest may discard; if it may write, unless told otherwise. */
  readonly discard?: boolean;
  readonly directIoSafe?: boolean;
  /** Whether the guest may trust the backend (`trusted=`); it may, unless told otherwise. */
  readonly trusted?: boolean;
  /** The `protocol` key that libxl writes for PV guests. */
  readonly protocol?: string;
  /** Keys besides, or instead, in the backend's directory. */
  readonly backendKeys?: Readonly<Record<string, string | number>>;
}

/** Where an attached disk is in xenstore. */
export interface DiskPaths {
  readonly devid: number;
  readonly frontendPath: string;
  readonly backendPath: string;
  readonly libxlPath: string;
}

/** The directory under `backend/`, the libxl name of the type, for each backend type. */
const KINDS = {
  qdisk: { kind: 'qdisk', type: 'qdisk' },
  phy: { kind: 'vbd', type: 'phy' },
  tap: { kind: 'vbd3', type: 'vbd3' },
} as const;

export function diskPaths(frontendDomid: number, devid: number, disk: DiskConfig): DiskPaths {
  const { kind } = KINDS[disk.backendType ?? 'qdisk'];
  return {
    devid,
    frontendPath: `${domainPath(frontendDomid)}/device/vbd/${devid}`,
    backendPath: `${domainPath(disk.backendDomid ?? 0)}/backend/${kind}/${frontendDomid}/${devid}`,
    libxlPath: libxlDiskPath(frontendDomid, devid),
  };
}

export function libxlDiskPath(frontendDomid: number, devid: number): string {
  return `/libxl/${frontendDomid}/device/vbd/${devid}`;
}

/** Writes what libxl writes for a disk (device_disk_add, libxl__device_generic_add), in the caller's transaction. */
export async function writeDiskNodes(
  tx: XenstoreOperations,
  frontendDomid: number,
  paths: DiskPaths,
  disk: DiskConfig,
): Promise<void> {
  const backendDomid = disk.backendDomid ?? 0;
  const back = backendValues(frontendDomid, paths, disk);
  await writeDirectory(tx, paths.frontendPath, readableBy(frontendDomid, backendDomid), {
    ...frontendValues(backendDomid, paths, disk),
  });
  await writeDirectory(tx, paths.backendPath, readableBy(backendDomid, frontendDomid), back);
  await writeDirectory(tx, paths.libxlPath, [{ domid: 0, access: 'n' }], {
    ...back,
    frontend: paths.frontendPath,
    backend: paths.backendPath,
  });
}

function backendValues(frontendDomid: number, paths: DiskPaths, disk: DiskConfig): Record<string, string | number> {
  const backendType = disk.backendType ?? 'qdisk';
  const cdrom = disk.deviceType === 'cdrom';
  const writable = disk.readOnly !== true && !cdrom;
  return {
    frontend: paths.frontendPath,
    'frontend-id': frontendDomid,
    online: 1,
    removable: cdrom ? 1 : 0,
    bootable: 1,
    state: 1,
    dev: disk.vdev,
    type: KINDS[backendType].type,
    mode: writable ? 'w' : 'r',
    'device-type': disk.deviceType ?? 'disk',
    ...(disk.directIoSafe ? { 'direct-io-safe': 1 } : {}),
    'discard-enable': (disk.discard ?? writable) ? 1 : 0,
    specification: 'xen',
    params: paramsOf(disk),
    ...(backendType === 'qdisk' ? {} : { script: backendType === 'tap' ? SCRIPTS.tap : SCRIPTS.phy }),
    ...disk.backendKeys,
  };
}

const SCRIPTS = { tap: '/etc/xen/scripts/block-tap', phy: '/etc/xen/scripts/block' };

/** The `params` key: the target, with its format in front for the backends that need to be told. */
export function paramsOf(disk: DiskConfig): string {
  if ((disk.backendType ?? 'qdisk') === 'phy') return disk.target;
  const format = disk.format ?? 'raw';
  return `${format === 'raw' ? 'aio' : format}:${disk.target}`;
}

function frontendValues(backendDomid: number, paths: DiskPaths, disk: DiskConfig): Record<string, string | number> {
  return {
    backend: paths.backendPath,
    'backend-id': backendDomid,
    state: 1,
    'virtual-device': paths.devid,
    'device-type': disk.deviceType ?? 'disk',
    trusted: (disk.trusted ?? true) ? 1 : 0,
    ...(disk.protocol === undefined ? {} : { protocol: disk.protocol }),
  };
}

function readableBy(owner: number, reader: number): Permission[] {
  return [
    { domid: owner, access: 'n' },
    { domid: reader, access: 'r' },
  ];
}

/** Nodes written below inherit the permissions. */
async function writeDirectory(
  tx: XenstoreOperations,
  path: string,
  permissions: Permission[],
  values: Record<string, string | number>,
): Promise<void> {
  await tx.remove(path);
  await tx.mkdir(path);
  await tx.setPermissions(path, permissions);
  for (const [name, value] of Object.entries(values)) await tx.write(`${path}/${name}`, value);
}
