import type { Domid } from '@xenpv/xen-sys';
import { backendPath, domainPath, frontendPath, libxlPath, unplugDevice } from '@xenpv/xenbus';
import type { XenstoreClient, XenstoreOperations } from '@xenpv/xenstore';
import { ToolstackError } from '../errors.js';
import { BackendWait, XL_TIMEOUT_MS } from './backend-wait.js';
import {
  devicesOf,
  freeDevid,
  type KnownDevice,
  libxlDevice,
  writeDeviceNodes,
  type XlDevice,
} from './device-nodes.js';
import { backendDirectory, backendTypeOf, paramsOf, type XlDisk } from './disk-config.js';
import {
  type DiskPaths,
  devidOf,
  diskAddress,
  diskPaths,
  FRONTEND_TYPE,
  libxlDiskPath,
  removeWithEmptyParents,
  writeDiskNodes,
} from './disk-nodes.js';

/** A device that the toolstack attached. */
export interface AttachedDevice extends DiskPaths {
  /** The guest that it is for: `frontend-id` of the backend's directory. */
  readonly frontendDomid: Domid;
  /** The domain that serves it: `backend-id` of the frontend's directory. */
  readonly backendDomid: Domid;
}

/** A disk that the toolstack attached. */
export type AttachedDisk = AttachedDevice;

/** How a call ends early. */
export interface AttachOptions {
  /** Rejects with its reason. What one transaction writes is written whole, or not at all. */
  readonly signal?: AbortSignal | undefined;
}

/** How a device is detached. */
export interface DetachOptions {
  /** Goes on without the guest: its directory is removed first, and a backend that does not answer is left alone. */
  readonly force?: boolean | undefined;
  /** Rejects with its reason. The backend may have been told to close by then, and goes on with that. */
  readonly signal?: AbortSignal | undefined;
}

/** The part of a toolstack that devices meet: writes to xenstore what xl writes, and waits for what xl waits for. */
export class Toolstack {
  readonly #store: XenstoreClient;
  readonly #wait: BackendWait;

  /** `timeoutMs`: how long to wait for a backend. */
  constructor(store: XenstoreClient, timeoutMs = XL_TIMEOUT_MS) {
    this.#store = store;
    this.#wait = new BackendWait(store, timeoutMs);
  }

  /**
   * `xl block-attach`. For a qdisk it returns when the nodes are written; for the others when the backend was seen
   * in InitWait and the hotplug script's nodes are written.
   * A disk whose backend is not waited for to the end stays attached. Errors: ERR_VDEV, ERR_NO_DOMAIN, ERR_EXISTS,
   * ERR_TIMEOUT; the signal's reason.
   */
  async attachDisk(frontendDomid: Domid, disk: XlDisk, options: AttachOptions = {}): Promise<AttachedDisk> {
    const op = 'attachDisk';
    const backendDomid = disk.backendDomid ?? 0;
    const address = diskAddress(frontendDomid, devidOf(op, disk.vdev), disk);
    const paths = diskPaths(address, backendDomid);
    await this.#store.transaction(async (tx) => {
      await checkNew(tx, op, { frontendDomid, backendDomid, name: `disk ${disk.vdev}`, path: paths.libxlPath });
      await writeDiskNodes(tx, address, disk);
    }, options);
    if (backendTypeOf(disk) !== 'qdisk') {
      await this.#wait.ready(paths.backendPath, { op, signal: options.signal });
      await this.#runBlockScript(paths.backendPath, disk.target, options);
    }
    return { ...paths, frontendDomid, backendDomid };
  }

  /**
   * Attaches a device of any kind, as `xl network-attach` and its like do; it does not wait for the backend, nor run a
   * hotplug script. Errors: ERR_NO_DOMAIN, ERR_EXISTS; the signal's reason.
   */
  async attachDevice(frontendDomid: Domid, device: XlDevice, options: AttachOptions = {}): Promise<AttachedDevice> {
    const { type, frontendType = type, backendDomid = 0 } = device;
    return this.#store.transaction(async (tx) => {
      const devid = device.devid ?? (await freeDevid(tx, frontendDomid, frontendType));
      const address = { type, domid: frontendDomid, devid };
      const paths = {
        frontendPath: frontendPath(address, frontendType),
        backendPath: backendPath(backendDomid, address),
        libxlPath: libxlPath(address, frontendType),
      };
      const name = `${frontendType} ${devid}`;
      await checkNew(tx, 'attachDevice', { frontendDomid, backendDomid, name, path: paths.libxlPath });
      await writeDeviceNodes(tx, { backendDomid, address, frontendType }, device);
      return { ...paths, devid, frontendDomid, backendDomid };
    }, options);
  }

  /** As {@link detachDisk}, for a device of any kind, by its frontend's class. Errors: ERR_NO_DEVICE, ERR_TIMEOUT. */
  async detachDevice(
    frontendDomid: Domid,
    frontendType: string,
    devid: number,
    options: DetachOptions = {},
  ): Promise<void> {
    await this.#detachKnown('detachDevice', frontendDomid, frontendType, devid, options);
  }

  /**
   * `xl block-detach`: online=0 and state=5 together, waits for the backend's state 6, removes the directories; a
   * driver domain removes its own. Errors: ERR_VDEV, ERR_NO_DEVICE, ERR_TIMEOUT and the signal's reason (nothing was
   * removed).
   */
  async detachDisk(frontendDomid: Domid, vdev: string, options: DetachOptions = {}): Promise<void> {
    const devid = devidOf('detachDisk', vdev);
    await this.#detachKnown('detachDisk', frontendDomid, FRONTEND_TYPE, devid, options);
  }

  /**
   * `xl cd-insert` and, with an empty target, `xl cd-eject`: changes `params` of a cdrom; no state changes.
   * Errors: ERR_VDEV, ERR_NO_DEVICE; the signal's reason.
   */
  async changeMedium(frontendDomid: Domid, vdev: string, target: string, options: AttachOptions = {}): Promise<void> {
    const op = 'changeMedium';
    const devid = devidOf(op, vdev);
    await this.#store.transaction(async (tx) => {
      const { backendDomid, address } = await knownDevice(tx, op, frontendDomid, FRONTEND_TYPE, devid);
      const backendType = address.type === backendDirectory('qdisk') ? 'qdisk' : 'phy';
      const params = target === '' ? '' : paramsOf({ vdev, target, backendType });
      const known = libxlDiskPath(frontendDomid, devid);
      for (const path of [backendPath(backendDomid, address), known]) await tx.write(`${path}/params`, params);
    }, options);
  }

  /** The device numbers of the domain's disks. */
  async disks(frontendDomid: Domid, options: AttachOptions = {}): Promise<number[]> {
    const names = await this.#store.tryDirectory(`/libxl/${frontendDomid}/device/vbd`, options);
    return (names ?? []).map(Number);
  }

  /**
   * Detaches all devices, of every kind, as the end of the domain does: by force, all at once. Errors: the signal's
   * reason.
   */
  async detachAll(frontendDomid: Domid, { signal }: AttachOptions = {}): Promise<void> {
    const devices = await devicesOf(this.#store, frontendDomid, { signal });
    await Promise.all(devices.map((device) => this.#detach('detachAll', device, { force: true, signal })));
  }

  async #detachKnown(op: string, domid: Domid, type: string, devid: number, options: DetachOptions): Promise<void> {
    const { signal } = options;
    await this.#detach(op, await knownDevice(this.#store, op, domid, type, devid, { signal }), options);
  }

  async #detach(op: string, device: KnownDevice, options: DetachOptions): Promise<void> {
    const { address, backendDomid, frontendType } = device;
    const frontend = frontendPath(address, frontendType);
    const { signal } = options;
    if (options.force) await this.#store.remove(frontend, { signal });
    await unplugDevice(this.#store, backendDomid, address, { signal });
    const waiting = { op, signal };
    const backend = backendPath(backendDomid, address);
    await unlessForced(options, this.#wait.closed(backend, waiting));
    const served = backendDomid === 0;
    await this.#store.transaction(async (tx) => {
      for (const path of [frontend, libxlPath(address, frontendType)]) await tx.remove(path);
      if (served) await removeWithEmptyParents(tx, backend);
    }, waiting);
    if (!served) await unlessForced(options, this.#wait.removed(backend, waiting));
  }

  /** What the block script of a backend that needs one leaves. */
  async #runBlockScript(backend: string, target: string, options: AttachOptions): Promise<void> {
    await this.#store.transaction(async (tx) => {
      await tx.write(`${backend}/physical-device-path`, target);
      await tx.write(`${backend}/hotplug-status`, 'connected');
    }, options);
  }
}

/** By force, a backend that is late is left alone. */
async function unlessForced({ force }: DetachOptions, waited: Promise<void>): Promise<void> {
  try {
    await waited;
  } catch (error) {
    if (!force || !(error instanceof ToolstackError)) throw error;
  }
}

/** A device that is to be attached. */
interface Newcomer {
  readonly frontendDomid: Domid;
  readonly backendDomid: Domid;
  /** In words. */
  readonly name: string;
  /** Where libxl will keep it. */
  readonly path: string;
}

/** Both domains are there, and the device is not. */
async function checkNew(tx: XenstoreOperations, op: string, newcomer: Newcomer): Promise<void> {
  const { frontendDomid, backendDomid, name } = newcomer;
  for (const domid of [frontendDomid, backendDomid]) {
    const path = domainPath(domid);
    if (await tx.exists(path)) continue;
    throw new ToolstackError('ERR_NO_DOMAIN', op, `there is no domain ${domid}`, { path });
  }
  if (await tx.exists(newcomer.path)) {
    const message = `domain ${frontendDomid} has a ${name} already`;
    throw new ToolstackError('ERR_EXISTS', op, message, { path: newcomer.path });
  }
}

/** The device that libxl knows. */
async function knownDevice(
  ops: XenstoreOperations,
  op: string,
  domid: Domid,
  frontendType: string,
  devid: number,
  options: AttachOptions = {},
): Promise<KnownDevice> {
  const device = await libxlDevice(ops, domid, frontendType, devid, options);
  if (device !== undefined) return device;
  const what = frontendType === FRONTEND_TYPE ? 'disk' : `${frontendType} ${devid}`;
  const path = libxlPath({ domid, devid }, frontendType);
  throw new ToolstackError('ERR_NO_DEVICE', op, `there is no such ${what}`, { path });
}
