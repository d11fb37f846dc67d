import {
  backendPath,
  type DeviceAddress,
  domainPath,
  frontendPath,
  parseBackendPath,
  unplugDevice,
} from '@xenpv/xenbus';
import type { XenstoreClient, XenstoreOperations } from '@xenpv/xenstore';
import { ToolstackError } from '../errors.js';
import { BackendWait, XL_TIMEOUT_MS } from './backend-wait.js';
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

/** A disk that the toolstack attached. */
export interface AttachedDisk extends DiskPaths {
  readonly frontendDomid: number;
  readonly backendDomid: number;
}

export interface AttachOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface DetachOptions {
  /** Goes on without the guest: its directory is removed first, and a backend that does not answer is left alone. */
  readonly force?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A disk as libxl finds it again. */
interface KnownDisk {
  readonly backendDomid: number;
  readonly address: DeviceAddress;
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
   * Errors: ERR_VDEV, ERR_NO_DOMAIN, ERR_EXISTS, ERR_TIMEOUT.
   */
  async attachDisk(frontendDomid: number, disk: XlDisk, options: AttachOptions = {}): Promise<AttachedDisk> {
    const op = 'attachDisk';
    const backendDomid = disk.backendDomid ?? 0;
    const address = diskAddress(frontendDomid, devidOf(op, disk.vdev), disk);
    const paths = diskPaths(address, backendDomid);
    await this.#store.transaction(async (tx) => {
      for (const domid of [frontendDomid, backendDomid]) {
        const path = domainPath(domid);
        if (await tx.exists(path)) continue;
        throw new ToolstackError('ERR_NO_DOMAIN', op, `there is no domain ${domid}`, { path });
      }
      if (await tx.exists(paths.libxlPath)) {
        const message = `domain ${frontendDomid} has a disk ${disk.vdev} already`;
        throw new ToolstackError('ERR_EXISTS', op, message, { path: paths.libxlPath });
      }
      await writeDiskNodes(tx, address, disk);
    });
    if (backendTypeOf(disk) !== 'qdisk') {
      await this.#wait.ready(paths.backendPath, { op, signal: options.signal });
      await this.#runBlockScript(paths.backendPath, disk.target);
    }
    return { ...paths, frontendDomid, backendDomid };
  }

  /**
   * `xl block-detach`: online=0 and state=5 together, waits for the backend's state 6, removes the directories; a
   * driver domain removes its own. Errors: ERR_VDEV, ERR_NO_DEVICE, ERR_TIMEOUT (nothing was removed).
   */
  async detachDisk(frontendDomid: number, vdev: string, options: DetachOptions = {}): Promise<void> {
    await this.#detach(frontendDomid, devidOf('detachDisk', vdev), options);
  }

  /**
   * `xl cd-insert` and, with an empty target, `xl cd-eject`: changes `params` of a cdrom; no state changes.
   * Errors: ERR_VDEV, ERR_NO_DEVICE.
   */
  async changeMedium(frontendDomid: number, vdev: string, target: string): Promise<void> {
    const libxlPath = libxlDiskPath(frontendDomid, devidOf('changeMedium', vdev));
    await this.#store.transaction(async (tx) => {
      const { backendDomid, address } = await diskAt(tx, libxlPath, 'changeMedium');
      const backendType = address.type === backendDirectory('qdisk') ? 'qdisk' : 'phy';
      const params = target === '' ? '' : paramsOf({ vdev, target, backendType });
      for (const path of [backendPath(backendDomid, address), libxlPath]) await tx.write(`${path}/params`, params);
    });
  }

  /** The device numbers of the domain's disks. */
  async disks(frontendDomid: number): Promise<number[]> {
    const names = await this.#store.tryDirectory(`/libxl/${frontendDomid}/device/vbd`);
    return (names ?? []).map(Number);
  }

  /** Detaches all disks, as the end of the domain does: by force, all at once. */
  async detachAll(frontendDomid: number): Promise<void> {
    const devids = await this.disks(frontendDomid);
    await Promise.all(devids.map((devid) => this.#detach(frontendDomid, devid, { force: true })));
  }

  async #detach(frontendDomid: number, devid: number, options: DetachOptions): Promise<void> {
    const libxlPath = libxlDiskPath(frontendDomid, devid);
    const disk = await diskAt(this.#store, libxlPath, 'detachDisk');
    const frontend = frontendPath(disk.address, FRONTEND_TYPE);
    if (options.force) await this.#store.remove(frontend);
    await unplugDevice(this.#store, disk.backendDomid, disk.address);
    const waiting = { op: 'detachDisk', signal: options.signal };
    const backend = backendPath(disk.backendDomid, disk.address);
    try {
      await this.#wait.closed(backend, waiting);
    } catch (error) {
      if (!options.force || !(error instanceof ToolstackError)) throw error;
    }
    const served = disk.backendDomid === 0;
    await this.#store.transaction(async (tx) => {
      for (const path of [frontend, libxlPath]) await tx.remove(path);
      if (served) await removeWithEmptyParents(tx, backend);
    });
    if (!served) await this.#wait.removed(backend, waiting);
  }

  /** What the block script of a backend that needs one leaves. */
  async #runBlockScript(backend: string, target: string): Promise<void> {
    await this.#store.transaction(async (tx) => {
      await tx.write(`${backend}/physical-device-path`, target);
      await tx.write(`${backend}/hotplug-status`, 'connected');
    });
  }
}

/** The disk that libxl knows at `libxlPath`. */
async function diskAt(ops: XenstoreOperations, libxlPath: string, op: string): Promise<KnownDisk> {
  const backend = (await ops.tryRead(`${libxlPath}/backend`)) ?? '';
  const backendDomid = Number(/^\/local\/domain\/(\d+)\//.exec(backend)?.[1]);
  const address = parseBackendPath(backendDomid, backend);
  if (address === undefined) {
    throw new ToolstackError('ERR_NO_DEVICE', op, 'there is no such disk', { path: libxlPath });
  }
  return { backendDomid, address };
}
