import { type Domid, unlessAborted, type XenProvider } from '@xenpv/xen-sys';
import {
  BackendBus,
  type BackendContext,
  type BackendDevice,
  type DeviceAddress,
  deviceName,
  errorMessage,
  type GuestCounters,
} from '@xenpv/xenbus';
import type { OperationOptions } from '@xenpv/xenstore';
import { BlockDevice, type BlockDeviceOptions, type TakeOverConsent } from './disk/disk.js';
import { openRawImage } from './disk/raw-image.js';
import { codeOf, XenBlockError } from './errors.js';
import { LocalRingHost, type RingHost, type RingHosts } from './hosts/ring-host.js';
import { WorkerRingHost } from './hosts/worker-host.js';
import { GuestBudgets } from './limits/guest-budgets.js';
import { type CheckedOptions, checkOptions, type OfferedLimits, type XenBlockBackendOptions } from './options.js';
import { DataPlane } from './plane/data-plane.js';
import { StaleJournals } from './plane/journal/stale-journals.js';

/** How often storage that hangs is looked for, at least. */
const WATCH_MS = 1000;

interface BackendParts {
  readonly bus: BackendBus;
  readonly hosts: RingHosts;
  readonly devices: Map<string, BlockDevice>;
  readonly journals: StaleJournals | undefined;
  readonly watchMs: number;
  readonly setLimits: (limits: OfferedLimits) => void;
  readonly setRateLimits: (limits: ConfiguredLimits) => void;
}

/** What is in force where a disk's directory does not say. */
export type ConfiguredLimits = Pick<XenBlockBackendOptions, 'diskLimits' | 'guestLimits'>;

/**
 * Serves every disk and cdrom drive that the toolstack creates in this domain.
 *
 * @example
 * ```ts
 * import { openFileImage } from '@xenpv/blockdev';
 * import { nativeProvider } from '@xenpv/xen-sys';
 * import { XenBlockBackend } from '@xenpv/xen-block';
 * import { XenstoreClient } from '@xenpv/xenstore';
 *
 * await using store = await XenstoreClient.connect({ reconnect: true });
 * const openImage = () => openFileImage('/var/lib/xen/images/guest.raw');
 * await using _backend = await XenBlockBackend.start({ provider: nativeProvider(), store, types: ['qdisk'], openImage });
 * ```
 */
export class XenBlockBackend implements AsyncDisposable {
  readonly #bus: BackendBus;
  readonly #hosts: RingHosts;
  readonly #devices: Map<string, BlockDevice>;
  readonly #journals: StaleJournals | undefined;
  readonly #setLimits: (limits: OfferedLimits) => void;
  readonly #setRateLimits: (limits: ConfiguredLimits) => void;
  readonly #timer: NodeJS.Timeout;
  #closing: Promise<void> | undefined;

  private constructor({ bus, hosts, devices, journals, watchMs, setLimits, setRateLimits }: BackendParts) {
    this.#bus = bus;
    this.#hosts = hosts;
    this.#devices = devices;
    this.#journals = journals;
    this.#setLimits = setLimits;
    this.#setRateLimits = setRateLimits;
    this.#timer = setInterval(() => this.#watchStorage(), watchMs).unref();
  }

  /**
   * Devices that exist already are being adopted when it resolves: see {@link settled}. When it rejects, nothing is left
   * running; after `signal` aborted it, what has begun ends as soon as xenstored lets it. RangeError: an option is out of
   * its range.
   */
  static async start(options: XenBlockBackendOptions): Promise<XenBlockBackend> {
    const checked = checkOptions(options);
    options.signal?.throwIfAborted();
    const hosts = await startHosts(options.provider, checked, options.onThreadLost ?? throwUncaught);
    try {
      return await XenBlockBackend.#startOn(hosts, options, checked);
    } catch (error) {
      // With rings of devices that xenstored keeps from stopping, a host closes later.
      await (options.signal?.aborted ? closeIdleHosts(hosts) : closeHosts(hosts));
      throw error;
    }
  }

  static async #startOn(
    hosts: RingHosts,
    options: XenBlockBackendOptions,
    checked: CheckedOptions,
  ): Promise<XenBlockBackend> {
    let { limits } = checked;
    const { dataPath, stallMs, growthMs, letGoMs } = checked;
    const { openImage = openRawImage, sectorSize = 512, journalDirectory, onError = 'report' } = options;
    const consents = new Map<string, TakeOverConsent>();
    const guestBudgets = new GuestBudgets();
    let { diskLimits = {} } = options;
    guestBudgets.configure(options.guestLimits ?? {});
    const limitsFor = () => diskLimits;
    const shared = {
      limitsFor,
      guestBudgets,
      hosts,
      openImage,
      dataPath,
      sectorSize,
      journalDirectory,
      onError,
      stallMs,
      growthMs,
      letGoMs,
      consents,
    };
    const devices = new Map<string, BlockDevice>();
    const createHandler = (context: BackendContext) => new TrackedDevice(context, { ...shared, limits }, devices);
    const { store, types = ['qdisk'], ownDomid, hotplugTypes, removeDirectories } = options;
    const { abortTimeoutMs, stopTimeoutMs, guestPaces, signal } = options;
    let journals: StaleJournals | undefined;
    const onGone = () => journals?.deviceGone();
    const bus = await BackendBus.start({
      store,
      types,
      createHandler,
      ownDomid,
      hotplugTypes,
      removeDirectories,
      abortTimeoutMs,
      stopTimeoutMs,
      onGone,
      guestPaces,
      signal,
    });
    try {
      const isServed = (address: DeviceAddress) => bus.get(address) !== undefined;
      const { provider } = options;
      const asked = { provider, store, ownDomid: bus.ownDomid, frontendType: 'vbd', isServed };
      if (journalDirectory !== undefined) {
        journals = new StaleJournals(journalDirectory, asked);
        await journals.start({ signal });
      }
      signal?.throwIfAborted();
    } catch (error) {
      journals?.[Symbol.dispose]();
      // A xenstored that is silent may be why it was aborted.
      const closed = bus.close();
      if (!signal?.aborted) await closed;
      throw error;
    }
    const watchMs = Math.min(WATCH_MS, Math.ceil(stallMs / 4));
    const setLimits = (offered: OfferedLimits) => {
      ({ limits } = checkOptions({ ...options, limits: offered }));
    };
    const setRateLimits = (configured: ConfiguredLimits) => {
      diskLimits = configured.diskLimits ?? {};
      guestBudgets.configure(configured.guestLimits ?? {});
      for (const device of devices.values()) device.reviewLimits();
    };
    return new XenBlockBackend({ bus, hosts, devices, journals, watchMs, setLimits, setRateLimits });
  }

  /**
   * Resolves when no further disk is discovered: with undefined after {@link close}, with an error when the connection to
   * xenstored is closed for good. In the latter case the disks are served until the backend is closed.
   */
  get closed(): Promise<Error | undefined> {
    return this.#bus.closed;
  }

  /**
   * Resolves when each disk that is there now was adopted, is held, waits for its frontend, or is tried again later; or
   * when `signal` is aborted: an image that hangs would keep it from that. Never rejects.
   */
  settled(options: OperationOptions = {}): Promise<void> {
    return this.#bus.settled(options);
  }

  /** The domain that this backend runs in. */
  get ownDomid(): Domid {
    return this.#bus.ownDomid;
  }

  /** The disks and drives there are now, each once: one that is opened anew while somebody goes through them is not met twice. */
  get devices(): Iterable<BlockDevice> {
    return [...this.#devices.values()];
  }

  /**
   * Where there are disks that are not among {@link devices}, because nothing has opened them: their frontends had closed
   * them before this process found them, and have not come back. None that the toolstack takes away.
   */
  get unopened(): DeviceAddress[] {
    const isUnopened = ({ name, online, handler }: BackendDevice) =>
      online && handler === undefined && !this.#devices.has(name);
    return [...this.#bus.devices].filter(isUnopened).map(({ address }) => address);
  }

  /** What each guest that has disks has made this backend do in xenstore. */
  get guests(): Iterable<GuestCounters> {
    return this.#bus.guests;
  }

  /** Where rings are served: this thread first, then its worker threads. */
  get hosts(): readonly RingHost[] {
    return [this.#hosts.local, ...this.#hosts.workers];
  }

  /**
   * Resolves when every thread that serves rings has come round its event loop once more: for a watchdog, since one that is
   * stuck never does. Rejects when one has ended.
   */
  async ping(): Promise<void> {
    await Promise.all(this.hosts.map((host) => host.ping()));
  }

  /**
   * What is offered to the frontends of devices that appear from now on; those that are there keep their limits.
   * RangeError: one is out of its range, and nothing was changed.
   */
  setLimits(limits: OfferedLimits): void {
    this.#setLimits(limits);
  }

  /** What disks and guests may do in a second from now on, where no disk's directory says otherwise. */
  setRateLimits(limits: ConfiguredLimits): void {
    this.#setRateLimits(limits);
  }

  /**
   * Looks at the size of every image again. Rejects when that fails for some, or one has shrunk, after all were looked
   * at; see {@link BlockDevice.refresh}, which one disk alone can be refreshed with. `signal` ends the wait alone.
   */
  async refresh({ signal }: OperationOptions = {}): Promise<void> {
    const refreshed = () => Promise.allSettled([...this.#devices.values()].map((device) => device.refresh()));
    const looks = await unlessAborted(signal, refreshed);
    const errors = looks.flatMap((look) => (look.status === 'rejected' ? [look.reason as unknown] : []));
    if (errors.length === 0) return;
    const message = errors.map(errorMessage).join('; ');
    throw new XenBlockError(codeOf(errors[0]), 'refresh', message, { cause: new AggregateError(errors) });
  }

  /**
   * Stops: answers every taken request and releases everything, leaving the devices Connected in the store, so that
   * their frontends wait for the next process. Requests that are not answered within `stopTimeoutMs` stay in the
   * journals; what serves them is left behind, for the process is expected to end.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  #watchStorage(): void {
    for (const device of this.#devices.values()) device.watchStorage();
  }

  async #close(): Promise<void> {
    clearInterval(this.#timer);
    this.#journals?.[Symbol.dispose]();
    await this.#bus.close();
    for (const device of this.#devices.values()) device.tellLeft();
    await closeIdleHosts(this.#hosts);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** A device that is in the list of devices until it is closed. */
class TrackedDevice extends BlockDevice {
  readonly #devices: Map<string, BlockDevice>;

  constructor(context: BackendContext, options: BlockDeviceOptions, devices: Map<string, BlockDevice>) {
    super(context, options);
    this.#devices = devices;
    devices.set(deviceName(context.address), this);
  }

  protected override get isCurrent(): boolean {
    return this.#devices.get(deviceName(this.address)) === this;
  }

  override async close(): Promise<void> {
    if (this.isCurrent) this.#devices.delete(deviceName(this.address));
    await super.close();
  }
}

/** Where nobody says otherwise, the process ends as by any exception that nobody caught. */
function throwUncaught(error: XenBlockError): void {
  queueMicrotask(() => {
    throw error;
  });
}

async function startHosts(
  provider: XenProvider,
  { threads, plane }: CheckedOptions,
  onLost: (error: XenBlockError) => void,
): Promise<RingHosts> {
  const local = new LocalRingHost(new DataPlane(provider, plane));
  const starts = Array.from({ length: threads }, () => WorkerRingHost.start(provider, plane, onLost));
  const started = await Promise.allSettled(starts);
  const workers = started.flatMap((start) => (start.status === 'fulfilled' ? [start.value] : []));
  const failed = started.find((start) => start.status === 'rejected');
  if (!failed) return { local, workers };
  await closeHosts({ local, workers });
  throw failed.reason;
}

/** A host that still has a ring is closed when that has been let go of, which nobody waits for. */
async function closeIdleHosts({ local, workers }: RingHosts): Promise<void> {
  const closings = [local, ...workers].map((host) => ({ isIdle: host.ringCount === 0, closed: host.close() }));
  for (const { closed } of closings) closed.catch(() => {});
  await Promise.all(closings.filter(({ isIdle }) => isIdle).map(({ closed }) => closed));
}

async function closeHosts({ local, workers }: RingHosts): Promise<void> {
  await Promise.all([local, ...workers].map((host) => host.close()));
}
