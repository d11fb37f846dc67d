import type { Domid } from '@xenpv/xen-sys';
import type { XenstoreClient } from '@xenpv/xenstore';
import { errorCode, errorMessage, printable } from '../errors.js';
import { type DeviceAddress, domainPath, isNumber } from '../paths.js';
import { isXenstoreTrouble } from '../waiting/xenstore-trouble.js';

/** Where a device's error is told: `error/backend/<type>/<domid>/<devid>/error` below the own domain, as Linux does. */
export function errorNodePath(ownDomid: Domid, address: DeviceAddress): string {
  return `${errorsPath(ownDomid, address.type)}/${address.domid}/${address.devid}`;
}

function errorsPath(ownDomid: Domid, type: string): string {
  return `${domainPath(ownDomid)}/error/backend/${type}`;
}

/**
 * Writes `CODE message`. Rejects if xenstored is in trouble; that it may not be written (a domain without that right) is
 * no second error.
 */
export async function writeErrorNode(
  store: XenstoreClient,
  ownDomid: Domid,
  address: DeviceAddress,
  error: unknown,
): Promise<void> {
  // People read it on terminals.
  const text = printable(`${errorCode(error)} ${errorMessage(error)}`).slice(0, 1000);
  await store.write(`${errorNodePath(ownDomid, address)}/error`, text).catch(throwTrouble);
}

/** Removes a device's node, and what is empty then above it, up to `error`. Rejects if xenstored is in trouble. */
export async function removeErrorNode(store: XenstoreClient, ownDomid: Domid, address: DeviceAddress): Promise<void> {
  await removeWithEmptyParents(store, errorNodePath(ownDomid, address)).catch(throwTrouble);
}

/**
 * Removes the nodes of devices that are gone: an earlier process left them, and counts against a domain's quota. Rejects
 * if xenstored is in trouble.
 */
export async function removeStaleErrorNodes(
  store: XenstoreClient,
  ownDomid: Domid,
  type: string,
  isThere: (address: DeviceAddress) => Promise<boolean>,
): Promise<void> {
  const path = errorsPath(ownDomid, type);
  try {
    for (const domid of ((await store.tryDirectory(path)) ?? []).filter(isNumber)) {
      const devids = ((await store.tryDirectory(`${path}/${domid}`)) ?? []).filter(isNumber);
      if (devids.length === 0) await removeWithEmptyParents(store, `${path}/${domid}`);
      for (const devid of devids) {
        const address = { type, domid: Number(domid), devid: Number(devid) };
        if (!(await isThere(address))) await removeErrorNode(store, ownDomid, address);
      }
    }
  } catch (error) {
    throwTrouble(error);
  }
}

async function removeWithEmptyParents(store: XenstoreClient, path: string): Promise<void> {
  if (!(await store.exists(path))) return;
  await store.transaction(async (tx) => {
    await tx.remove(path);
    for (let parent = parentOf(path); !parent.endsWith('/error'); parent = parentOf(parent)) {
      if ((await tx.tryDirectory(parent))?.length !== 0) return;
      await tx.remove(parent);
    }
  });
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}

function throwTrouble(error: unknown): void {
  if (isXenstoreTrouble(error)) throw error;
}
