import type { XenstoreClient, XenstoreOperations } from '@xenpv/xenstore';
import { ToolstackError } from '../errors.js';
import { type DiskConfig, type DiskPaths, diskPaths, libxlDiskPath, paramsOf, writeDiskNodes } from './disk-nodes.js';
import { domainPath } from './domain-nodes.js';
import { vdevNumber } from './vdev.js';

const INIT_WAIT = '2';
const CLOSING = 5;
const CLOSED = '6';

/** How long xl waits for a backend, in either direction (LIBXL_INIT_TIMEOUT, LIBXL_DESTROY_TIMEOUT). */
export const XL_TIMEOUT_MS = 10_000;

/** A disk that the toolstack attached. */
export interface AttachedDisk extends DiskPaths {
  readonly frontendDomid: number;
  readonly backendDomid: number;
}

export interface DetachOptions {
  /** Goes on without the guest: its directory is removed first, and a backend that does not answer is left alone. */
  readonly force?: boolean;
  readonly signal?: AbortSignal;
}

/** The part of a toolstack that devices meet: writes to xenstore what xl writes, and waits for what xl waits for. */
export class Toolstack {
  readonly #store: XenstoreClient;
  readonly #timeoutMs: number;

  /** `timeoutMs`: how long to wait for a backend. */
  constructor(store: XenstoreClient, timeoutMs = XL_TIMEOUT_MS) {
    this.#store = store;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * `xl block-attach`. For a qdisk it returns when the nodes are written; for the others when the backend was seen
   * in InitWait and the hotplug script's nodes are written.
   * Errors: ERR_VDEV, ERR_NO_DOMAIN, ERR_EXISTS, ERR_TIMEOUT.
   */
  async attachDisk(
    frontendDomid: number,
    disk: DiskConfig,
    options: { signal?: AbortSignal } = {},
  ): Promise<AttachedDisk> {
    const backendDomid = disk.backendDomid ?? 0;
    const paths = diskPaths(frontendDomid, devidOf('attachDisk', disk.vdev), disk);
    await this.#store.transaction(async (tx) => {
      for (const domid of [frontendDomid, backendDomid]) {
        if (await tx.exists(domainPath(domid))) continue;
        throw new ToolstackError('ERR_NO_DOMAIN', 'attachDisk', `there is no domain ${domid}`, domainPath(domid));
      }
      if (await tx.exists(paths.libxlPath)) {
        const message = `domain ${frontendDomid} has a disk ${disk.vdev} already`;
        throw new ToolstackError('ERR_EXISTS', 'attachDisk', message, paths.libxlPath);
      }
      await writeDiskNodes(tx, frontendDomid, paths, disk);
    });
    if ((disk.backendType ?? 'qdisk') !== 'qdisk') await this.#hotplug(paths, disk, options.signal);
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
    const path = libxlDiskPath(frontendDomid, devidOf('changeMedium', vdev));
    await this.#store.transaction(async (tx) => {
      const backend = await this.#backendOf(tx, path, 'changeMedium');
      const params = target === '' ? '' : paramsOf({ vdev, target, backendType: backendTypeOf(backend) });
      for (const directory of [backend, path]) await tx.write(`${directory}/params`, params);
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
    const backend = await this.#backendOf(this.#store, libxlPath, 'detachDisk');
    const frontend = `${domainPath(frontendDomid)}/device/vbd/${devid}`;
    if (options.force) await this.#store.remove(frontend);
    await this.#askToClose(backend);
    try {
      await this.#waitForClosed(backend, options.signal);
    } catch (error) {
      if (!options.force || !(error instanceof ToolstackError)) throw error;
    }
    await this.#removeNodes([frontend, libxlPath], backend, options.signal);
  }

  async #backendOf(ops: XenstoreOperations, libxlPath: string, op: string): Promise<string> {
    const backend = await ops.tryRead(`${libxlPath}/backend`);
    if (backend === undefined) throw new ToolstackError('ERR_NO_DEVICE', op, 'there is no such disk', libxlPath);
    return backend;
  }

  async #askToClose(backend: string): Promise<void> {
    await this.#store.transaction(async (tx) => {
      const state = await tx.tryRead(`${backend}/state`);
      if (state === undefined) return;
      await tx.write(`${backend}/online`, 0);
      if (state !== CLOSED) await tx.write(`${backend}/state`, CLOSING);
    });
  }

  #waitForClosed(backend: string, signal?: AbortSignal): Promise<true> {
    return this.#waitFor('detachDisk', 'the backend did not close', `${backend}/state`, signal, async (ops, path) => {
      const state = await ops.tryRead(path);
      return state === undefined || state === CLOSED ? true : undefined;
    });
  }

  /** A driver domain removes its backend directory itself (`xl devd` does). */
  async #removeNodes(ours: string[], backend: string, signal?: AbortSignal): Promise<void> {
    const isDriverDomains = !backend.startsWith(`${domainPath(0)}/`);
    await this.#store.transaction(async (tx) => {
      for (const path of ours) await tx.remove(path);
      if (!isDriverDomains) await removeWithEmptyParents(tx, backend);
    });
    if (!isDriverDomains) return;
    const message = 'the driver domain did not remove its directory';
    await this.#waitFor('detachDisk', message, backend, signal, async (ops, path) =>
      (await ops.exists(path)) ? undefined : true,
    );
  }

  /** Waits for InitWait, then does what the block script does. */
  async #hotplug(paths: DiskPaths, disk: DiskConfig, signal?: AbortSignal): Promise<void> {
    const message = 'the backend did not become ready (state 2)';
    await this.#waitFor('attachDisk', message, `${paths.backendPath}/state`, signal, async (ops, path) =>
      (await ops.tryRead(path)) === INIT_WAIT ? true : undefined,
    );
    await this.#store.transaction(async (tx) => {
      await tx.write(`${paths.backendPath}/physical-device-path`, disk.target);
      await tx.write(`${paths.backendPath}/hotplug-status`, 'connected');
    });
  }

  async #waitFor(
    op: string,
    message: string,
    path: string,
    signal: AbortSignal | undefined,
    look: (ops: XenstoreOperations, path: string) => Promise<true | undefined>,
  ): Promise<true> {
    const deadline = new AbortController();
    const late = new ToolstackError('ERR_TIMEOUT', op, `${message} within ${this.#timeoutMs / 1000} s`, path);
    const timer = setTimeout(() => deadline.abort(late), this.#timeoutMs);
    const signals = signal === undefined ? [deadline.signal] : [deadline.signal, signal];
    try {
      return await this.#store.waitFor((ops) => look(ops, path), { signal: AbortSignal.any(signals) });
    } catch (error) {
      throw deadline.signal.aborted ? late : error;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** As libxl does for the nodes above a device (libxl__xs_path_cleanup). */
async function removeWithEmptyParents(tx: XenstoreOperations, path: string): Promise<void> {
  await tx.remove(path);
  for (let levels = 0, parent = parentOf(path); levels < 2; levels++, parent = parentOf(parent)) {
    const children = await tx.tryDirectory(parent);
    if (children === undefined || children.length > 0) return;
    await tx.remove(parent);
  }
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}

function backendTypeOf(backendPath: string): 'qdisk' | 'phy' {
  return backendPath.includes('/backend/qdisk/') ? 'qdisk' : 'phy';
}

function devidOf(op: string, vdev: string): number {
  const devid = vdevNumber(vdev);
  if (devid === undefined) throw new ToolstackError('ERR_VDEV', op, `${vdev} is not a virtual device name`);
  return devid;
}
