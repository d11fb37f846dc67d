import type { Domid } from '@xenpv/xen-sys';
import type { OperationOptions, XenstoreClient } from '@xenpv/xenstore';
import { BackendDevice, type HandlerFactory } from './backend-device.js';
import { addedChannel, errorChannel, removedChannel, scanChannel } from './diagnostics.js';
import { removeStaleErrorNodes } from './error-nodes/error-node.js';
import { XenbusError } from './errors.js';
import type { GuestCounters, GuestPaces } from './guests/guest-account.js';
import { GuestAccounts } from './guests/guest-accounts.js';
import type { BackendHandler } from './handler/handler.js';
import { readOwnDomid } from './own-domid.js';
import { backendPath, type DeviceAddress, deviceName, domainPath, isNumber, parseBackendPath } from './paths.js';
import { endedOrAborted, LATE, withinDeadline } from './waiting/deadline.js';
import { LastingWatch } from './waiting/lasting-watch.js';
import { Retries } from './waiting/retries.js';
import { Takeovers } from './waiting/takeovers.js';

/** What a bus serves, and how. */
export interface BackendBusOptions<H extends BackendHandler = BackendHandler> {
  /**
   * xenstored as this domain sees it. All devices share the client, and closing the bus leaves it open. Without
   * `reconnect` the end of its connection is the end of discovery.
   */
  readonly store: XenstoreClient;
  /** Backend types to serve: `['qdisk', 'vbd3']`. */
  readonly types: readonly string[];
  /** Called before each `prepare`; a device has one handler at a time. What it throws is a failed `prepare`. */
  readonly createHandler: HandlerFactory<H>;
  /**
   * Which devices are served; all of them when not given. Others are left as they are, for another backend: the console 0
   * of a guest is xenconsoled's.
   */
  readonly serves?: ((address: DeviceAddress) => boolean) | undefined;
  /** The domain that this process runs in; read from `domid` if not given, which domain 0 has from xen-init-dom0. */
  readonly ownDomid?: Domid | undefined;
  /** Types for which Connected waits for the hotplug script; libxl's `vbd` and `vbd3` by default. */
  readonly hotplugTypes?: readonly string[] | undefined;
  /** Delete a device's own directory when the toolstack is done with it; by default in every domain but 0. */
  readonly removeDirectories?: boolean | undefined;
  /**
   * How long a handler's `prepare` or `connect` may take after its signal was aborted, in milliseconds; 5000 when not
   * given. Then it is left behind, which is reported as ETIMEDOUT.
   */
  readonly abortTimeoutMs?: number | undefined;
  /**
   * How long {@link BackendBus.close} waits for a device, in milliseconds; 20000 when not given. Then it is left behind,
   * which is reported as ETIMEDOUT.
   */
  readonly stopTimeoutMs?: number | undefined;
  /** Called when a device's directory is gone, it holds nothing any more, and the bus does not know it. */
  readonly onGone?: ((address: DeviceAddress) => void) | undefined;
  /** How fast a guest may make the bus do things; {@link GUEST_PACES} where not given. */
  readonly guestPaces?: Partial<GuestPaces> | undefined;
  /** Aborting ends the start, which rejects with its reason. Later it means nothing: there is {@link BackendBus.close}. */
  readonly signal?: AbortSignal | undefined;
}

const ABORT_TIMEOUT_MS = 5000;
const STOP_TIMEOUT_MS = 20_000;
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
 *
 * A look that fails is reported, and taken again after a pause that grows. A watch that xenstored takes away is registered
 * again. So discovery ends only with the bus, or with the client: see {@link closed}.
 */
export class BackendBus<H extends BackendHandler = BackendHandler> implements AsyncDisposable {
  /** The domain below whose `backend/` devices are discovered: as given, or as read from `domid`. */
  readonly ownDomid: Domid;
  /**
   * Resolves when nothing is discovered any more: with undefined after {@link close}, with an error when the client was
   * closed or broke for good. In the latter case the devices are served on until the bus is closed, though nothing new
   * of them is seen.
   */
  readonly closed: Promise<Error | undefined>;
  readonly #options: BackendBusOptions<H>;
  readonly #devices = new Map<string, BackendDevice<H>>();
  readonly #watches: LastingWatch[] = [];
  readonly #retries = new Retries();
  readonly #guests: GuestAccounts;
  readonly #takeovers = new Takeovers();
  #starting = true;
  /** The first look that failed while the bus starts, which ends the start. */
  #startFailure: { readonly error: unknown } | undefined;
  #isOver = false;
  #resolveClosed!: (error: Error | undefined) => void;
  #closing: Promise<void> | undefined;

  private constructor(options: BackendBusOptions<H>, ownDomid: Domid) {
    this.#options = options;
    this.ownDomid = ownDomid;
    this.#guests = new GuestAccounts(options.guestPaces);
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    void options.store.closed.then((error) => this.#storeClosed(error));
  }

  /**
   * Begins discovery; devices that exist already are known when it resolves, see {@link settled}. When it rejects,
   * nothing is left running; after `signal` aborted it, what has begun ends as soon as xenstored lets it. Errors: ERR_DOMID, and those of the store.
   */
  static async start<H extends BackendHandler>(options: BackendBusOptions<H>): Promise<BackendBus<H>> {
    const { signal } = options;
    signal?.throwIfAborted();
    const bus = new BackendBus<H>(options, options.ownDomid ?? (await readOwnDomid(options.store, { signal })));
    const started = Promise.allSettled(options.types.map((type) => bus.#watchType(type)));
    if (signal !== undefined) await endedOrAborted(started, signal);
    if (signal?.aborted) {
      // Not waited for: a xenstored that is silent may be why.
      void bus.close();
      throw signal.reason;
    }
    const starts = await started;
    const failed = starts.find((start) => start.status === 'rejected');
    const failure = failed === undefined ? bus.#startFailure : { error: failed.reason as unknown };
    bus.#starting = false;
    bus.#takeovers.allAreFound();
    if (failure === undefined) return bus;
    await bus.close();
    throw failure.error;
  }

  /** The devices known now. */
  get devices(): Iterable<BackendDevice<H>> {
    return this.#devices.values();
  }

  /** The device at an address, or undefined if none is known there now. */
  get(address: DeviceAddress): BackendDevice<H> | undefined {
    return this.#devices.get(deviceName(address));
  }

  /** What each guest that has devices has made the bus do. */
  get guests(): Iterable<GuestCounters> {
    return this.#guests.all;
  }

  /**
   * Resolves when each device that is known now was adopted, is held, waits for its frontend, or is tried again later;
   * or when `signal` is aborted, since a handler that hangs would keep it from that. Never rejects.
   */
  async settled({ signal }: OperationOptions = {}): Promise<void> {
    const all = Promise.all([...this.#devices.values()].map((device) => device.settled()));
    await (signal === undefined ? all : endedOrAborted(all, signal));
  }

  /**
   * Stops everything and leaves the store as it is: frontends wait until another process adopts them. What does not stop
   * in time is left behind.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#isOver = true;
    this.#takeovers[Symbol.dispose]();
    this.#retries[Symbol.dispose]();
    const { stopTimeoutMs = STOP_TIMEOUT_MS } = this.#options;
    const watches = Promise.all(this.#watches.map((watch) => watch.close()));
    await Promise.all([...this.#devices.values()].map((device) => device.stop()));
    if ((await withinDeadline(watches, stopTimeoutMs)) === LATE) {
      const text = `xenstored did not end the watches of the bus within ${stopTimeoutMs} ms`;
      errorChannel.publish({ address: undefined, error: new XenbusError('ETIMEDOUT', 'stop', text) });
    }
    this.#devices.clear();
    this.#resolveClosed(undefined);
  }

  #storeClosed(cause: Error | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#takeovers[Symbol.dispose]();
    this.#retries[Symbol.dispose]();
    for (const watch of this.#watches) void watch.close();
    for (const device of this.#devices.values()) device.storeClosed();
    const text = 'the connection to xenstored was closed; no other device is served';
    const error = cause ?? new XenbusError('ERR_CLOSED', 'discover', text);
    errorChannel.publish({ address: undefined, error });
    this.#resolveClosed(error);
  }

  async #watchType(type: string): Promise<void> {
    const path = this.#typePath(type);
    const watch = await LastingWatch.start({
      store: this.#options.store,
      path,
      changed: (changed) => this.#lookAt(type, changed),
      lost: (error) => errorChannel.publish({ address: undefined, error }),
    });
    // The start was given up meanwhile.
    if (this.#isOver) return watch.close();
    this.#watches.push(watch);
    await this.#lookAt(type, path);
    await this.#removeStaleErrors(type);
  }

  /** Looks at a device, at all of a domain, or at all of the type. What fails is looked at again later. */
  async #lookAt(type: string, path: string): Promise<void> {
    if (this.#isOver) return;
    const address = parseBackendPath(this.ownDomid, path);
    const domid = path.slice(this.#typePath(type).length + 1);
    if (address) await this.#try(backendPath(this.ownDomid, address), address, () => this.#touch(address));
    else if (isNumber(domid)) await this.#try(path, undefined, () => this.#scanDomain(type, Number(domid)));
    else await this.#try(this.#typePath(type), undefined, () => this.#scanType(type));
  }

  async #try(key: string, address: DeviceAddress | undefined, look: () => Promise<void>): Promise<void> {
    try {
      await look();
      this.#retries.worked(key);
    } catch (error) {
      if (this.#isOver) return;
      if (this.#starting) {
        this.#startFailure ??= { error };
        return;
      }
      errorChannel.publish({ address, error });
      this.#retries.failed(key, () => void this.#try(key, address, look));
    }
  }

  async #touch(address: DeviceAddress): Promise<void> {
    const device = this.#devices.get(deviceName(address));
    if (device) device.poke();
    else if (this.#options.serves?.(address) === false) return;
    else if (await this.#isThere(address)) this.#add(address);
  }

  #isThere(address: DeviceAddress): Promise<boolean> {
    return this.#options.store.exists(`${backendPath(this.ownDomid, address)}/state`);
  }

  #removeStaleErrors(type: string): Promise<void> {
    return this.#try(`errors of ${type}`, undefined, () =>
      removeStaleErrorNodes(this.#options.store, this.ownDomid, type, (address) => this.#isThere(address)),
    );
  }

  #add(address: DeviceAddress): void {
    const name = deviceName(address);
    if (this.#isOver || this.#devices.has(name)) return;
    const hotplug = this.#options.hotplugTypes ?? HOTPLUG_TYPES;
    const device = new BackendDevice({
      store: this.#options.store,
      ownDomid: this.ownDomid,
      address,
      createHandler: this.#options.createHandler,
      guest: this.#guests.join(address.domid),
      turn: this.#takeovers.turn(),
      waitForHotplug: hotplug.includes(address.type),
      removeDirectory: this.#options.removeDirectories ?? this.ownDomid !== 0,
      abortTimeoutMs: this.#options.abortTimeoutMs ?? ABORT_TIMEOUT_MS,
      stopTimeoutMs: this.#options.stopTimeoutMs ?? STOP_TIMEOUT_MS,
      onGone: () => this.#drop(name, address),
    });
    this.#devices.set(name, device);
    addedChannel.publish({ address });
    device.poke();
  }

  #drop(name: string, address: DeviceAddress): void {
    this.#devices.delete(name);
    this.#guests.leave(address.domid);
    removedChannel.publish({ address });
    this.#options.onGone?.(address);
    // It may have been created again between the last look and now.
    void this.#lookAt(address.type, backendPath(this.ownDomid, address));
  }

  async #scanType(type: string): Promise<void> {
    if (scanChannel.hasSubscribers) scanChannel.publish({ type, domid: undefined });
    const path = this.#typePath(type);
    const domains = await this.#options.store.tryDirectory(path);
    this.#pokeMissing(type, undefined, domains);
    await Promise.all((domains ?? []).filter(isNumber).map((domid) => this.#lookAt(type, `${path}/${domid}`)));
  }

  async #scanDomain(type: string, domid: Domid): Promise<void> {
    if (scanChannel.hasSubscribers) scanChannel.publish({ type, domid });
    const path = `${this.#typePath(type)}/${domid}`;
    const devices = await this.#options.store.tryDirectory(path);
    this.#pokeMissing(type, domid, devices);
    await Promise.all((devices ?? []).filter(isNumber).map((devid) => this.#lookAt(type, `${path}/${devid}`)));
  }

  #typePath(type: string): string {
    return `${domainPath(this.ownDomid)}/backend/${type}`;
  }

  /** Devices that are not listed any more must look for themselves. */
  #pokeMissing(type: string, domid: Domid | undefined, names: string[] | undefined): void {
    for (const device of this.#devices.values()) {
      const { address } = device;
      if (address.type !== type || (domid !== undefined && address.domid !== domid)) continue;
      const name = String(domid === undefined ? address.domid : address.devid);
      if (!names?.includes(name)) device.poke();
    }
  }
}
