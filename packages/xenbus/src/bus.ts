import type { Watch, XenstoreClient } from '@xenpv/xenstore';
import { BackendDevice, type HandlerFactory } from './backend-device.js';
import { addedChannel, errorChannel, removedChannel, scanChannel } from './diagnostics.js';
import { backendPath, type DeviceAddress, deviceName, domainPath, isNumber, parseBackendPath } from './paths.js';

export interface BackendBusOptions {
  readonly store: XenstoreClient;
  /** Backend types to serve: `['qdisk', 'vbd3']`. */
  readonly types: readonly string[];
  readonly createHandler: HandlerFactory;
  /** The domain that this process runs in; read from `domid` if not given. */
  readonly ownDomid?: number | undefined;
  /** Types for which Connected waits for the hotplug script; libxl's `vbd` and `vbd3` by default. */
  readonly hotplugTypes?: readonly string[] | undefined;
  /** Delete a device's own directory when the toolstack is done with it; by default in every domain but 0. */
  readonly removeDirectories?: boolean | undefined;
}

const HOTPLUG_TYPES = ['vbd', 'vbd3'];

/**
 * Discovers the devices that a toolstack creates under `backend/<type>/<domid>/<devid>` and runs each through its
 * life. One watch a type tells of every change below it by path, so that an event costs the same with one device
 * as with a thousand; a device itself adds one watch, on its frontend's state.
 *
 * In come paths, each of which only says where to look: one at or below a device pokes that device, any other lists the
 * devices of its domain or of its type again, and known devices that are not listed any more look for themselves. There
 * is one device for each address. It is dropped when its directory is gone and everything is released, then looked for
 * once more, since it may have been created again by then. Devices do not wait for each other, and a failing one
 * disturbs no other.
 */
export class BackendBus implements AsyncDisposable {
  readonly ownDomid: number;
  readonly #options: BackendBusOptions;
  readonly #devices = new Map<string, BackendDevice>();
  readonly #watches: Watch[] = [];
  #closing: Promise<void> | undefined;

  private constructor(options: BackendBusOptions, ownDomid: number) {
    this.#options = options;
    this.ownDomid = ownDomid;
  }

  /** Begins discovery; devices that exist already are adopted before it returns. */
  static async start(options: BackendBusOptions): Promise<BackendBus> {
    const bus = new BackendBus(options, options.ownDomid ?? (await readOwnDomid(options.store)));
    await Promise.all(options.types.map((type) => bus.#watchType(type)));
    return bus;
  }

  /** The devices known now. */
  get devices(): Iterable<BackendDevice> {
    return this.#devices.values();
  }

  /** Stops everything and leaves the store as it is: frontends wait until another process adopts them. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    await Promise.all(this.#watches.map((watch) => watch[Symbol.asyncDispose]()));
    await Promise.all([...this.#devices.values()].map((device) => device.stop()));
    this.#devices.clear();
  }

  async #watchType(type: string): Promise<void> {
    const path = `${domainPath(this.ownDomid)}/backend/${type}`;
    const watch = await this.#options.store.watch(path);
    this.#watches.push(watch);
    await this.#scanType(type);
    void this.#follow(type, path, watch);
  }

  async #follow(type: string, typePath: string, watch: Watch): Promise<void> {
    try {
      for await (const event of watch) await this.#handle(type, typePath, event.path);
    } catch (error) {
      if (!this.#closing) errorChannel.publish({ address: undefined, error });
    }
  }

  async #handle(type: string, typePath: string, path: string): Promise<void> {
    if (this.#closing) return;
    const address = parseBackendPath(this.ownDomid, path);
    if (address) return this.#touch(address, path);
    const domid = path.slice(typePath.length + 1);
    if (isNumber(domid)) return this.#scanDomain(type, Number(domid));
    return this.#scanType(type);
  }

  async #touch(address: DeviceAddress, path: string): Promise<void> {
    const base = backendPath(this.ownDomid, address);
    const device = this.#devices.get(deviceName(address));
    if (device) device.poke(path.slice(base.length + 1));
    else if (await this.#options.store.exists(`${base}/state`)) this.#add(address);
  }

  #add(address: DeviceAddress): void {
    const name = deviceName(address);
    if (this.#closing || this.#devices.has(name)) return;
    const hotplug = this.#options.hotplugTypes ?? HOTPLUG_TYPES;
    const device = new BackendDevice({
      store: this.#options.store,
      ownDomid: this.ownDomid,
      address,
      createHandler: this.#options.createHandler,
      waitForHotplug: hotplug.includes(address.type),
      removeDirectory: this.#options.removeDirectories ?? this.ownDomid !== 0,
      onGone: () => this.#drop(name, address),
    });
    this.#devices.set(name, device);
    addedChannel.publish({ address });
    device.poke();
  }

  #drop(name: string, address: DeviceAddress): void {
    this.#devices.delete(name);
    removedChannel.publish({ address });
    // It may have been created again between the last look and now.
    void this.#touch(address, backendPath(this.ownDomid, address)).catch(() => {});
  }

  async #scanType(type: string): Promise<void> {
    if (scanChannel.hasSubscribers) scanChannel.publish({ type, domid: undefined });
    const domains = await this.#options.store.tryDirectory(`${domainPath(this.ownDomid)}/backend/${type}`);
    this.#pokeMissing(type, undefined, domains);
    await Promise.all((domains ?? []).filter(isNumber).map((domid) => this.#scanDomain(type, Number(domid))));
  }

  async #scanDomain(type: string, domid: number): Promise<void> {
    if (scanChannel.hasSubscribers) scanChannel.publish({ type, domid });
    const path = `${domainPath(this.ownDomid)}/backend/${type}/${domid}`;
    const devices = await this.#options.store.tryDirectory(path);
    this.#pokeMissing(type, domid, devices);
    await Promise.all(
      (devices ?? []).filter(isNumber).map(async (devid) => {
        const address = { type, domid, devid: Number(devid) };
        await this.#touch(address, backendPath(this.ownDomid, address));
      }),
    );
  }

  /** Devices that are not listed any more must look for themselves. */
  #pokeMissing(type: string, domid: number | undefined, names: string[] | undefined): void {
    for (const device of this.#devices.values()) {
      const { address } = device;
      if (address.type !== type || (domid !== undefined && address.domid !== domid)) continue;
      const name = String(domid === undefined ? address.domid : address.devid);
      if (!names?.includes(name)) device.poke();
    }
  }
}

async function readOwnDomid(store: XenstoreClient): Promise<number> {
  const text = await store.tryRead('domid').catch(() => undefined);
  return isNumber(text) ? Number(text) : 0;
}
