import type { Domid } from '@xenpv/xen-sys';
import type { OperationOptions, XenstoreClient, XenstoreOperations } from '@xenpv/xenstore';
import type { XenstoreValues } from '../handler/handler.js';
import { backendPath, domainPath, isNumber, parseBackendPath } from '../paths.js';
import { parseState, type XenbusState } from '../states.js';
import { type BothHalves, checkFree, type NewDevice, writeDevice, writeLibxlDevice } from './halves.js';

/** A device for {@link attachDevice}. */
export interface DeviceDescription {
  /** The backend's type, below `backend/`. */
  readonly type: string;
  /** The frontend's class, below `device/`; as `type` when not given. */
  readonly frontendType?: string | undefined;
  /** The lowest one that is free when not given. */
  readonly devid?: number | undefined;
  /** The domain that serves it; 0 when not given. */
  readonly backendDomid?: Domid | undefined;
  /** What the backend is told, besides the keys that every device has. */
  readonly backendKeys?: XenstoreValues | undefined;
  /** What the frontend is told. */
  readonly frontendKeys?: XenstoreValues | undefined;
  /** Writes what libxl remembers of its devices too, so that the device ends with its domain. Default false. */
  readonly libxl?: boolean | undefined;
}

/** A device of a domain, as xenstore has it. `removeDevice` and `deleteDevice` take it as it is. */
export interface ListedDevice extends BothHalves {
  /** The frontend's directory: `/local/domain/5/device/vbd/51712`. */
  readonly frontendPath: string;
  /** The frontend's `backend` key, verified to be the directory of `address`, which may be gone. */
  readonly backendPath: string;
  /** Unknown where the node is missing or makes no sense. */
  readonly frontendState: XenbusState;
  /** Unknown where the backend's directory is gone. */
  readonly backendState: XenbusState;
}

/**
 * Attaches a device of any kind to a domain: both halves in one transaction, each to be read by the other end only. The
 * backend need not be there yet. Resolves with what `removeDevice` takes. Rejects with EEXIST when there is one of that
 * number.
 *
 * @example
 * ```ts
 * import { attachDevice, removeDevice } from '@xenpv/xenbus';
 * import { XenstoreClient } from '@xenpv/xenstore';
 *
 * await using store = await XenstoreClient.connect();
 * const device = await attachDevice(store, 5, { type: 'vcount', backendKeys: { factor: 3 } });
 * await removeDevice(store, device);
 * ```
 */
export async function attachDevice(
  store: XenstoreClient,
  domid: Domid,
  description: DeviceDescription,
  options: OperationOptions = {},
): Promise<BothHalves> {
  const { type, frontendType = type, backendDomid = 0, backendKeys = {}, frontendKeys = {} } = description;
  return store.transaction(async (tx) => {
    const devid = description.devid ?? (await freeDevid(tx, domid, frontendType));
    const halves: BothHalves = { backendDomid, address: { type, domid, devid }, frontendType };
    await checkFree(tx, halves);
    const device: NewDevice = { ...halves, backendValues: backendKeys, frontendValues: frontendKeys };
    await writeDevice(tx, device);
    if (description.libxl) await writeLibxlDevice(tx, device);
    return halves;
  }, options);
}

/**
 * The devices of a domain, in one transaction: all of them, or those of one frontend class, in the order of their numbers.
 * Those whose frontend names no backend are left out. Which backend a device has is read from the frontend's directory,
 * which the guest may write: believe it no more than the guest.
 */
export function listDevices(
  store: XenstoreClient,
  domid: Domid,
  options: OperationOptions & { readonly frontendType?: string | undefined } = {},
): Promise<readonly ListedDevice[]> {
  return store.transaction(
    async (tx) => {
      const home = `${domainPath(domid)}/device`;
      const types = options.frontendType === undefined ? ((await tx.tryDirectory(home)) ?? []) : [options.frontendType];
      const listed = await Promise.all(types.map((frontendType) => listClass(tx, domid, frontendType)));
      return listed.flat();
    },
    { signal: options.signal },
  );
}

async function freeDevid(tx: XenstoreOperations, domid: Domid, frontendType: string): Promise<number> {
  const taken = new Set(await tx.tryDirectory(`${domainPath(domid)}/device/${frontendType}`));
  let devid = 0;
  while (taken.has(String(devid))) devid++;
  return devid;
}

async function listClass(tx: XenstoreOperations, domid: Domid, frontendType: string): Promise<ListedDevice[]> {
  const names = (await tx.tryDirectory(`${domainPath(domid)}/device/${frontendType}`)) ?? [];
  const devids = names.filter(isNumber).map(Number);
  const listed = await Promise.all(
    devids.sort((a, b) => a - b).map((devid) => listOne(tx, { domid, devid }, frontendType)),
  );
  return listed.filter((device) => device !== undefined);
}

async function listOne(
  tx: XenstoreOperations,
  { domid, devid }: { domid: Domid; devid: number },
  frontendType: string,
): Promise<ListedDevice | undefined> {
  const front = `${domainPath(domid)}/device/${frontendType}/${devid}`;
  const [backend, id, state] = await Promise.all(
    ['backend', 'backend-id', 'state'].map((key) => tx.tryRead(`${front}/${key}`)),
  );
  if (backend === undefined || !isNumber(id)) return undefined;
  const backendDomid = Number(id);
  const address = parseBackendPath(backendDomid, backend);
  if (address?.domid !== domid || address.devid !== devid || backend !== backendPath(backendDomid, address)) {
    return undefined;
  }
  const backendState = parseState(await tx.tryRead(`${backend}/state`));
  const frontendState = parseState(state);
  return {
    backendDomid,
    address,
    frontendType,
    frontendPath: front,
    backendPath: backend,
    frontendState,
    backendState,
  };
}
