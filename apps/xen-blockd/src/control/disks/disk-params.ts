/** The key by which a disk's directory names its image. */
import { QmpError } from '@xenpv/qmp';
import { backendPath, type DeviceAddress, libxlPath } from '@xenpv/xenbus';
import { type Controlled, servingParts } from '../controlled.js';
import { FRONTEND_TYPE } from './disk-keys.js';

/** Undefined for a disk whose directory is gone. Errors: of xenstore; DeviceNotActive. */
export async function readParams(controlled: Controlled, address: DeviceAddress): Promise<string | undefined> {
  const { store, ownDomid } = servingParts(controlled);
  return store.tryRead(`${backendPath(ownDomid, address)}/params`);
}

/** Errors: of xenstore; DeviceNotActive while the daemon starts, or if the disk's directory is gone. */
export async function writeParams(controlled: Controlled, address: DeviceAddress, params: string): Promise<void> {
  const { store, ownDomid } = servingParts(controlled);
  const path = backendPath(ownDomid, address);
  const libxl = `${libxlPath(address, FRONTEND_TYPE)}/params`;
  await store.transaction(async (tx) => {
    // A directory that the toolstack has removed must not come back.
    if (!(await tx.exists(`${path}/state`))) throw QmpError.refusal('the disk is gone', 'DeviceNotActive');
    await tx.write(`${path}/params`, params);
    // libxl's copy, from which it makes the guest's configuration.
    if (ownDomid === 0 && (await tx.exists(libxl))) await tx.write(libxl, params);
  });
}
