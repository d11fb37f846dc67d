import { parseVdev, VdevError } from '@xenpv/blkif';
import {
  backendPath,
  type DeviceAddress,
  frontendPath,
  libxlPath,
  writeDevice,
  writeLibxlDevice,
  XenbusState,
} from '@xenpv/xenbus';
import type { XenstoreOperations } from '@xenpv/xenstore';
import { ToolstackError } from '../errors.js';
import { backendDirectory, backendKeysOf, backendTypeOf, frontendKeysOf, type XlDisk } from './disk-config.js';

/** The class of a disk's frontend, whatever its backend is. */
export const FRONTEND_TYPE = 'vbd';

/** Where an attached disk is in xenstore. */
export interface DiskPaths {
  /** The last part of all three paths; for a disk its `virtual-device` number, 51712 for `xvda`. */
  readonly devid: number;
  /** `/local/domain/FRONTEND/device/CLASS/DEVID`, by the frontend's domid; a disk's class is `vbd`. */
  readonly frontendPath: string;
  /** `/local/domain/BACKEND/backend/CLASS/FRONTEND/DEVID`; a disk's class is `qdisk`, `vbd` (phy) or `vbd3` (tap). */
  readonly backendPath: string;
  /** `/libxl/FRONTEND/device/CLASS/DEVID`, with the frontend's class: what the toolstack keeps for itself. */
  readonly libxlPath: string;
}

/** The number of a virtual device. Error: {@link ToolstackError} ERR_VDEV. */
export function devidOf(op: string, vdev: string): number {
  try {
    return parseVdev(vdev).number;
  } catch (cause) {
    if (!(cause instanceof VdevError)) throw cause;
    throw new ToolstackError('ERR_VDEV', op, cause.message, { cause });
  }
}

/** Which device a disk of `domid` will be. */
export function diskAddress(domid: number, devid: number, disk: XlDisk): DeviceAddress {
  return { type: backendDirectory(backendTypeOf(disk)), domid, devid };
}

export function diskPaths(address: DeviceAddress, backendDomid: number): DiskPaths {
  return {
    devid: address.devid,
    frontendPath: frontendPath(address, FRONTEND_TYPE),
    backendPath: backendPath(backendDomid, address),
    libxlPath: libxlDiskPath(address.domid, address.devid),
  };
}

/** Where libxl keeps what it knows of a disk. */
export function libxlDiskPath(domid: number, devid: number): string {
  return libxlPath({ domid, devid }, FRONTEND_TYPE);
}

/** Writes what libxl writes for a disk (device_disk_add), in the caller's transaction. */
export async function writeDiskNodes(tx: XenstoreOperations, address: DeviceAddress, disk: XlDisk): Promise<void> {
  const backendDomid = disk.backendDomid ?? 0;
  const paths = diskPaths(address, backendDomid);
  const state = XenbusState.initialising;
  const backendValues = {
    frontend: paths.frontendPath,
    'frontend-id': address.domid,
    online: 1,
    removable: disk.deviceType === 'cdrom' ? 1 : 0,
    bootable: 1,
    state,
    ...backendKeysOf(disk),
  };
  const frontendValues = {
    backend: paths.backendPath,
    'backend-id': backendDomid,
    state,
    'virtual-device': address.devid,
    ...frontendKeysOf(disk),
  };
  const device = { backendDomid, address, frontendType: FRONTEND_TYPE, backendValues, frontendValues };
  await writeDevice(tx, device);
  await writeLibxlDevice(tx, device);
}

/** Removes a directory and, as libxl does, those above it that are empty then (libxl__xs_path_cleanup). */
export async function removeWithEmptyParents(tx: XenstoreOperations, path: string): Promise<void> {
  await tx.remove(path);
  for (let levels = 0, parent = parentOf(path); levels < 2; levels++, parent = parentOf(parent)) {
    const children = await tx.tryDirectory(parent);
    if (children === undefined || children.length > 0) return;
    await tx.remove(parent);
  }
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}
