import type { Domid, EvtchnPort } from '@xenpv/xen-sys';
import type { OperationOptions, XenstoreClient } from '@xenpv/xenstore';
import { errorCode } from '../errors.js';
import { backendPath, type DeviceAddress, domainPath } from '../paths.js';
import { frontendPath } from '../toolstack/halves.js';

/** The part of a provider that tells which domains there are: `bindInterdomain` fails with ESRCH for one that is not. */
export interface DomainProbe {
  /** A handle, to try whether a domain is there. */
  openEventChannels(): { bindInterdomain(domid: Domid, remotePort: EvtchnPort): number; close(): void };
}

/** Whom to ask. */
export interface GoneDeviceOptions {
  /** Tells whether the hypervisor has the frontend's domain. A domain counts as there when that cannot be told. */
  readonly provider: DomainProbe;
  /** Tells whether the halves of the device and the frontend's domain are known. It stays open. */
  readonly store: XenstoreClient;
  /** The backend's domain. */
  readonly ownDomid: Domid;
  /** The frontend's class below `device/`: `vbd` for every kind of disk backend. */
  readonly frontendType: string;
  /** Aborting rejects with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Never bound, in any domain. */
const NO_PORT = 0;

/**
 * Whether a device that an earlier process served is gone for good, so that what it left for the device is of no use. A
 * device that xenstored does not know may be lost with the whole tree, because another xenstored was started that knows
 * nothing: its guest lives on, and may be made known again. A device is gone when its domain is, which the hypervisor
 * tells, or when it was taken from a domain that xenstored knows. Rejects with errors of the store.
 */
export async function isDeviceGone(address: DeviceAddress, options: GoneDeviceOptions): Promise<boolean> {
  const { store, ownDomid, provider, frontendType, signal } = options;
  if (!isDomainThere(provider, address.domid)) return true;
  if (await store.exists(backendPath(ownDomid, address), { signal })) return false;
  if (!(await isDomainKnown(store, address.domid, { signal }))) return false;
  if (!(await isSeen(store, frontendPath(address, frontendType), { signal }))) return true;
  // Toolstacks remove the frontend's half first, or both at once; nodes that are written again come in any order.
  return store.exists(`${domainPath(ownDomid)}/backend`, { signal });
}

/** Whether the hypervisor has a domain of that number. True where it cannot be asked. */
function isDomainThere(provider: DomainProbe, domid: Domid): boolean {
  try {
    const channels = provider.openEventChannels();
    try {
      channels.bindInterdomain(domid, NO_PORT);
      return true;
    } finally {
      channels.close();
    }
  } catch (error) {
    return errorCode(error) !== 'ESRCH';
  }
}

async function isDomainKnown(store: XenstoreClient, domid: Domid, options: OperationOptions): Promise<boolean> {
  try {
    return await store.exists(domainPath(domid), options);
  } catch (error) {
    if (errorCode(error) !== 'EACCES') throw error;
    // A driver domain may not look at other domains' nodes, nor may it ask every xenstored.
    return store.isDomainIntroduced(domid, options).catch(() => {
      options.signal?.throwIfAborted();
      return false;
    });
  }
}

async function isSeen(store: XenstoreClient, path: string, options: OperationOptions): Promise<boolean> {
  try {
    return await store.exists(path, options);
  } catch (error) {
    if (errorCode(error) === 'EACCES') return false;
    throw error;
  }
}
