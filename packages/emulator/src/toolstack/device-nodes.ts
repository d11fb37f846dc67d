import type { Domid } from '@xenpv/xen-sys';
import {
  backendPath,
  type DeviceAddress,
  frontendPath,
  libxlPath,
  parseBackendPath,
  writeDevice,
  writeLibxlDevice,
  type XenstoreValues,
} from '@xenpv/xenbus';
import type { OperationOptions, XenstoreOperations } from '@xenpv/xenstore';

/** A device of any kind, as a toolstack describes it. */
export interface XlDevice {
  /** The class of its backend: `vif`, `9pfs`, `vkbd`. */
  readonly type: string;
  /** The class of its frontend, if that has another name. */
  readonly frontendType?: string | undefined;
  /** Its number; the lowest that the guest has free, if not given. */
  readonly devid?: number | undefined;
  /** The domain that serves it; 0 unless told otherwise. */
  readonly backendDomid?: Domid | undefined;
  /** Keys of the backend's directory, besides those that every device has. */
  readonly backendValues?: XenstoreValues | undefined;
  /** Keys of the frontend's directory, likewise. */
  readonly frontendValues?: XenstoreValues | undefined;
}

/** A device as the toolstack finds it again. */
export interface KnownDevice {
  readonly backendDomid: Domid;
  readonly address: DeviceAddress;
  readonly frontendType: string;
}

/** The lowest number that no device of this class has. */
export async function freeDevid(ops: XenstoreOperations, domid: Domid, frontendType: string): Promise<number> {
  const taken = new Set(await ops.tryDirectory(`/libxl/${domid}/device/${frontendType}`));
  let devid = 0;
  while (taken.has(String(devid))) devid++;
  return devid;
}

/** Writes what libxl writes for a device of any class, in the caller's transaction. */
export async function writeDeviceNodes(tx: XenstoreOperations, known: KnownDevice, device: XlDevice): Promise<void> {
  const { backendValues = {}, frontendValues = {} } = device;
  await writeDevice(tx, { ...known, backendValues, frontendValues });
  await writeLibxlDevice(tx, { ...known, backendValues, frontendValues });
}

/** The device that libxl knows by this class and number, or undefined. */
export async function libxlDevice(
  ops: XenstoreOperations,
  domid: Domid,
  frontendType: string,
  devid: number,
  options?: OperationOptions,
): Promise<KnownDevice | undefined> {
  const backend = await ops.tryRead(`${libxlPath({ domid, devid }, frontendType)}/backend`, options);
  return deviceBehind(backend, domid, frontendType);
}

/**
 * All devices of a domain: those that libxl knows, and those that something else attached. Of the latter only the
 * guest's directory tells, which the guest may write: the backend's must name it.
 */
export async function devicesOf(
  ops: XenstoreOperations,
  domid: Domid,
  options?: OperationOptions,
): Promise<KnownDevice[]> {
  const found = new Map<string, KnownDevice>();
  for (const root of [`/libxl/${domid}/device`, `/local/domain/${domid}/device`]) {
    for (const frontendType of (await ops.tryDirectory(root, options)) ?? []) {
      for (const devid of (await ops.tryDirectory(`${root}/${frontendType}`, options)) ?? []) {
        const backend = await ops.tryRead(`${root}/${frontendType}/${devid}/backend`, options);
        const device = deviceBehind(backend, domid, frontendType);
        if (device === undefined || backend === undefined || found.has(backend)) continue;
        if (root.startsWith('/libxl/') || (await namesFrontend(ops, device, options))) found.set(backend, device);
      }
    }
  }
  return [...found.values()];
}

function deviceBehind(backend = '', domid: Domid, frontendType: string): KnownDevice | undefined {
  const backendDomid = Number(/^\/local\/domain\/(\d+)\/backend\//.exec(backend)?.[1]);
  const address = parseBackendPath(backendDomid, backend);
  if (address?.domid !== domid || backendPath(backendDomid, address) !== backend) return undefined;
  return { backendDomid, address, frontendType };
}

async function namesFrontend(
  ops: XenstoreOperations,
  device: KnownDevice,
  options?: OperationOptions,
): Promise<boolean> {
  const { backendDomid, address, frontendType } = device;
  const named = await ops.tryRead(`${backendPath(backendDomid, address)}/frontend`, options);
  return named === frontendPath(address, frontendType);
}
