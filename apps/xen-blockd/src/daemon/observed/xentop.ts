import type { XenBlockBackend } from '@xenpv/xen-block';
import { backendPath, type DeviceAddress, type DeviceEvent, deviceName, errorMessage } from '@xenpv/xenbus';
import type { XenstoreClient } from '@xenpv/xenstore';
import type { Logger } from 'pino';
import { xentopFigures } from '../../status/xentop-figures.js';
import { subscriptions } from './subscriptions.js';
import { XentopFolder } from './xentop-folder.js';

/** As often as xentop looks. */
const INTERVAL_MS = 1000;
/** The only type that libxenstat reads files for; it has the kernel's figures of vbd, and QMP for qdisk. */
const TYPE = 'vbd3';

/** What the figures are made of. */
export interface XentopOptions {
  /** Where libxenstat looks: /dev/shm. Nothing is done if undefined. */
  readonly directory: string | undefined;
  readonly store: XenstoreClient;
  readonly ownDomid: number;
  readonly logger: Logger;
}

/**
 * Figures of vbd3 disks for xentop and whatever else reads libxenstat: as tapdisk does, a file for each disk, and the
 * number of this process in the disk's key `kthread-pid`, by which the file is found.
 */
export class Xentop implements Disposable {
  readonly #options: XentopOptions;
  readonly #subscriptions: Disposable;
  #timer: NodeJS.Timeout | undefined;
  /** Disks that have connected; whether their key has been written. */
  readonly #disks = new Map<string, boolean>();
  #folder: XentopFolder | undefined;
  #backend: XenBlockBackend | undefined;
  #failed: boolean;

  /** It listens from now on: disks may be adopted before {@link start}. */
  constructor(options: XentopOptions) {
    this.#options = options;
    // libxenstat looks for disks of dom0 only.
    this.#failed = options.directory === undefined || options.ownDomid !== 0;
    this.#subscriptions = subscriptions({
      'xen-block:device:connected': ({ address }: DeviceEvent) => this.#connected(address),
      'xenbus:device:removed': ({ address }: DeviceEvent) => this.#removed(address),
    });
  }

  /** The disks are this backend's. */
  start(backend: XenBlockBackend): void {
    this.#backend = backend;
    this.#write();
    this.#timer = setInterval(() => this.#write(), INTERVAL_MS).unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#subscriptions[Symbol.dispose]();
    this.#folder?.[Symbol.dispose]();
    this.#folder = undefined;
    this.#disks.clear();
  }

  #connected(address: DeviceAddress): void {
    if (address.type !== TYPE || this.#failed) return;
    this.#disks.set(deviceName(address), false);
    this.#write();
  }

  #removed(address: DeviceAddress): void {
    if (this.#disks.delete(deviceName(address))) this.#folder?.remove(address);
  }

  #write(): void {
    const { directory, logger } = this.#options;
    if (this.#disks.size === 0 || this.#failed || directory === undefined) return;
    try {
      this.#folder ??= XentopFolder.make(directory);
      for (const device of this.#backend?.devices ?? []) {
        const isAnnounced = this.#disks.get(deviceName(device.address));
        if (isAnnounced === undefined) continue;
        this.#folder.write(device.address, xentopFigures(device.statistics()));
        if (!isAnnounced) void this.#announce(device.address);
      }
    } catch (error) {
      this.#failed = true;
      this.#disks.clear();
      logger.warn({ reason: errorMessage(error) }, 'xentop has no figures of vbd3 disks');
    }
  }

  /** A directory that the toolstack has removed is not written again. What fails is tried again with the next figures. */
  async #announce(address: DeviceAddress): Promise<void> {
    const { store, ownDomid } = this.#options;
    const path = backendPath(ownDomid, address);
    const name = deviceName(address);
    this.#disks.set(name, true);
    try {
      await store.transaction(async (transaction) => {
        if (await transaction.exists(`${path}/state`)) await transaction.write(`${path}/kthread-pid`, process.pid);
      });
    } catch {
      if (this.#disks.has(name)) this.#disks.set(name, false);
    }
  }
}
