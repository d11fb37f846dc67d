import type { Domid } from '@xenpv/xen-sys';
import { isXenstoreError, type OperationOptions, type XenstoreClient, type XenstoreOperations } from '@xenpv/xenstore';
import { XenbusError } from '../errors.js';
import type { XenstoreValues } from '../handler/handler.js';
import { backendPath, type DeviceAddress, deviceName, domainPath } from '../paths.js';
import { parseState, stateName, XenbusState } from '../states.js';

/** A device as a toolstack describes it. */
export interface NewDevice {
  /** The domain that serves it: the frontend's `backend-id`, and the owner of the backend's directory. */
  readonly backendDomid: Domid;
  /** The backend's type, the frontend's domain (the backend's `frontend-id`) and the device number. */
  readonly address: DeviceAddress;
  /** The frontend's class below `device/`: `vbd` for every kind of disk backend. */
  readonly frontendType: string;
  /** The backend's keys, in this order. `frontend`, `frontend-id`, `online` 1 and `state` 1 follow if not given. */
  readonly backendValues: XenstoreValues;
  /** The frontend's keys, in this order. `backend`, `backend-id` and `state` 1 follow if not given. */
  readonly frontendValues: XenstoreValues;
}

/** Where the two halves of a device are. */
export type BothHalves = Pick<NewDevice, 'backendDomid' | 'address' | 'frontendType'>;

const TIMEOUT_MS = 10_000;

/** Where the frontend's half of a device is. */
export function frontendPath(address: DeviceAddress, frontendType: string): string {
  return `${domainPath(address.domid)}/device/${frontendType}/${address.devid}`;
}

/**
 * Creates both halves of a device in one transaction, as libxl does: each directory belongs to its own domain and may
 * be read by the other. Fails with EEXIST when there is one already.
 */
export async function createDevice(
  store: XenstoreClient,
  device: NewDevice,
  options: OperationOptions = {},
): Promise<void> {
  await store.transaction(async (tx) => {
    await checkFree(tx, device);
    await writeDevice(tx, device);
  }, options);
}

/** EEXIST when the frontend's directory of a device is in use. */
export async function checkFree(tx: XenstoreOperations, { address, frontendType }: BothHalves): Promise<void> {
  const path = frontendPath(address, frontendType);
  if (!(await tx.exists(`${path}/state`))) return;
  throw new XenbusError('EEXIST', 'createDevice', `${path} exists already; detach that device first`, { path });
}

/**
 * Writes both halves of a device in the caller's transaction, the frontend's first, each with its keys in the order of
 * the given values (libxl__device_generic_add). The keys that every device has are added where they are not given.
 * Whatever was in the two directories goes.
 */
export async function writeDevice(tx: XenstoreOperations, device: NewDevice): Promise<void> {
  const { address, backendDomid } = device;
  const back = backendPath(backendDomid, address);
  const front = frontendPath(address, device.frontendType);
  await makeDirectory(tx, front, address.domid, backendDomid);
  const state = XenbusState.initialising;
  await writeAll(tx, front, withDefaults(device.frontendValues, { backend: back, 'backend-id': backendDomid, state }));
  await makeDirectory(tx, back, backendDomid, address.domid);
  const defaults = { frontend: front, 'frontend-id': address.domid, online: true, state };
  await writeAll(tx, back, withDefaults(device.backendValues, defaults));
}

/** Where libxl keeps what it knows of a device. */
export function libxlPath({ domid, devid }: Omit<DeviceAddress, 'type'>, frontendType: string): string {
  return `/libxl/${domid}/device/${frontendType}/${devid}`;
}

/**
 * Writes what libxl remembers of a device, in the caller's transaction: where its halves are, and the backend's keys as
 * they are now. From it come `xl block-list`, and the end of the device with its domain.
 */
export async function writeLibxlDevice(tx: XenstoreOperations, device: NewDevice): Promise<void> {
  const { address, backendDomid, frontendType, backendValues } = device;
  const path = libxlPath(address, frontendType);
  await tx.remove(path);
  await tx.mkdir(path);
  await tx.setPermissions(path, [{ domid: 0, access: 'n' }]);
  const halves = { frontend: frontendPath(address, frontendType), backend: backendPath(backendDomid, address) };
  await writeAll(tx, path, { ...backendValues, ...halves });
}

/** The given values in their order, then those of the defaults that are not among them. */
function withDefaults(values: XenstoreValues, defaults: XenstoreValues): XenstoreValues {
  const missing = Object.entries(defaults).filter(([key]) => !Object.hasOwn(values, key));
  return { ...values, ...Object.fromEntries(missing) };
}

async function makeDirectory(tx: XenstoreOperations, path: string, owner: number, reader: number): Promise<void> {
  await tx.remove(path).catch((error) => {
    if (!isXenstoreError(error, 'ENOENT')) throw error;
  });
  await tx.mkdir(path);
  await tx.setPermissions(path, [
    { domid: owner, access: 'n' },
    { domid: reader, access: 'r' },
  ]);
}

async function writeAll(tx: XenstoreOperations, path: string, values: XenstoreValues): Promise<void> {
  await Promise.all(Object.entries(values).map(([key, value]) => tx.write(`${path}/${key}`, value)));
}

/** Asks the backend to end a device: offline and Closing, in one transaction. Nothing happens when it is gone. */
export async function unplugDevice(
  store: XenstoreClient,
  backendDomid: Domid,
  address: DeviceAddress,
  options: OperationOptions = {},
): Promise<void> {
  const path = backendPath(backendDomid, address);
  await store.transaction(async (tx) => {
    const state = await tx.tryRead(`${path}/state`);
    if (state === undefined) return;
    await tx.write(`${path}/online`, false);
    if (parseState(state) !== XenbusState.closed) await tx.write(`${path}/state`, XenbusState.closing);
  }, options);
}

/** Deletes both halves, whatever their states: what a forced detach and a domain's end do. */
export async function deleteDevice(
  store: XenstoreClient,
  device: BothHalves,
  options: OperationOptions = {},
): Promise<void> {
  await store.remove(frontendPath(device.address, device.frontendType), options);
  await store.remove(backendPath(device.backendDomid, device.address), options);
}

/**
 * {@link unplugDevice}, wait for the backend's Closed for `timeoutMs`, by default ten seconds as libxl does, then
 * {@link deleteDevice}. Errors: ETIMEDOUT the backend did not close, and nothing was deleted; the reason of the signal.
 */
export async function removeDevice(
  store: XenstoreClient,
  device: BothHalves,
  { timeoutMs = TIMEOUT_MS, signal }: OperationOptions & { readonly timeoutMs?: number | undefined } = {},
): Promise<void> {
  const { backendDomid, address } = device;
  const path = backendPath(backendDomid, address);
  await unplugDevice(store, backendDomid, address, { signal });
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), timeoutMs);
  try {
    await store.waitFor(
      async (ops) => {
        const state = await ops.tryRead(`${path}/state`);
        return state === undefined || parseState(state) === XenbusState.closed ? true : undefined;
      },
      { signal: signal === undefined ? late.signal : AbortSignal.any([late.signal, signal]) },
    );
  } catch (cause) {
    signal?.throwIfAborted();
    if (!late.signal.aborted) throw cause;
    const now = stateName(parseState(await store.tryRead(`${path}/state`, { signal })));
    const text = `${deviceName(address)} did not close within ${timeoutMs} ms; its backend is ${now}`;
    throw new XenbusError('ETIMEDOUT', 'removeDevice', text, { path, cause });
  } finally {
    clearTimeout(timer);
  }
  await deleteDevice(store, device, { signal });
}
