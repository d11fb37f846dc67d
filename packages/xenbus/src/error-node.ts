import type { XenstoreClient } from '@xenpv/xenstore';
import { errorCode, errorMessage, printable } from './errors.js';
import { type DeviceAddress, domainPath } from './paths.js';

/** Where a device's error is told: `error/backend/<type>/<domid>/<devid>/error` below the own domain, as Linux does. */
export function errorNodePath(ownDomid: number, address: DeviceAddress): string {
  return `${domainPath(ownDomid)}/error/backend/${address.type}/${address.domid}/${address.devid}`;
}

/** Writes `CODE message`, without controls: people read it on terminals. That it cannot be written (a domain without that right) is no second error. */
export async function writeErrorNode(
  store: XenstoreClient,
  ownDomid: number,
  address: DeviceAddress,
  error: unknown,
): Promise<void> {
  const text = printable(`${errorCode(error)} ${errorMessage(error)}`).slice(0, 1000);
  await store.write(`${errorNodePath(ownDomid, address)}/error`, text).catch(() => {});
}

export async function removeErrorNode(store: XenstoreClient, ownDomid: number, address: DeviceAddress): Promise<void> {
  await store.remove(errorNodePath(ownDomid, address)).catch(() => {});
}
