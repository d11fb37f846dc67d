/**
 * Disks that are closed for good, whose directories nobody has removed: who was detaching them ended before that. No daemon
 * opens them again, and their guests have no other disk of those numbers until they are gone.
 */
import { backendPath, domainPath, parseBackendPath, parseState, XenbusState } from '@xenpv/xenbus';
import type { XenstoreOperations } from '@xenpv/xenstore';
import { type Controlled, servingParts, type UnopenedDisk } from '../controlled.js';

/** Errors: of xenstore; DeviceNotActive while the daemon starts. */
export async function closedDisks(controlled: Controlled): Promise<readonly UnopenedDisk[]> {
  const { store, ownDomid } = servingParts(controlled);
  const found: UnopenedDisk[] = [];
  for (const type of controlled.types) {
    const base = `${domainPath(ownDomid)}/backend/${type}`;
    for (const domid of (await store.tryDirectory(base)) ?? []) {
      for (const devid of (await store.tryDirectory(`${base}/${domid}`)) ?? []) {
        const address = parseBackendPath(ownDomid, `${type}/${domid}/${devid}`);
        if (address && (await isClosed(store, backendPath(ownDomid, address)))) found.push({ address });
      }
    }
  }
  return found;
}

async function isClosed(store: XenstoreOperations, path: string): Promise<boolean> {
  const [state, online] = [await store.tryRead(`${path}/state`), await store.tryRead(`${path}/online`)];
  return online === '0' && parseState(state) === XenbusState.closed;
}
