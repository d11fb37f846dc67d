import type { XenProvider } from '@xenpv/xen-sys';
import { BackendBus, type BackendContext, deviceName, errorMessage } from '@xenpv/xenbus';
import { BlockDevice, type BlockDeviceOptions } from './disk/disk.js';
import { openRawImage } from './disk/raw-image.js';
import { codeOf, XenBlockError } from './errors.js';
import { LocalRingHost, type RingHost, type RingHosts } from './hosts/ring-host.js';
import { WorkerRingHost } from './hosts/worker-host.js';
import { type CheckedOptions, checkOptions, type XenBlockBackendOptions } from './options.js';
import { DataPlane } from './plane/data-plane.js';
import { removeStaleJournals } from './plane/journal/stale-journals.js';

/** Serves every disk and cdrom drive that the toolstack creates in this domain. */
export class XenBlockBackend implements AsyncDisposable {
  readonly #bus: BackendBus;
  readonly #hosts: RingHosts;
  readonly #devices: Map<string, BlockDevice>;
  #closing: Promise<void> | undefined;

  private constructor(bus: BackendBus, hosts: RingHosts, devices: Map<string, BlockDevice>) {
    this.#bus = bus;
    this.#hosts = hosts;
    this.#devices = devices;
  }

  /** Devices that exist already are being adopted when it resolves. RangeError: an option is out of its range. */
  static async start(options: XenBlockBackendOptions): Promise<XenBlockBackend> {
    const checked = checkOptions(options);
    const hosts = await startHosts(options.provider, checked);
    const { limits, dataPath } = checked;
    const { openImage = openRawImage, sectorSize = 512, journalDirectory } = options;
    const deviceOptions = { limits, hosts, openImage, dataPath, sectorSize, journalDirectory };
    const devices = new Map<string, BlockDevice>();
    const createHandler = (context: BackendContext) => new TrackedDevice(context, deviceOptions, devices);
    const { store, types = ['qdisk'], ownDomid, hotplugTypes, removeDirectories } = options;
    const bus = await BackendBus.start({ store, types, createHandler, ownDomid, hotplugTypes, removeDirectories });
    if (journalDirectory !== undefined) await removeStaleJournals(journalDirectory, store, bus.ownDomid);
    return new XenBlockBackend(bus, hosts, devices);
  }

  /** The domain that this backend runs in. */
  get ownDomid(): number {
    return this.#bus.ownDomid;
  }

  /** The disks and drives there are now. */
  get devices(): Iterable<BlockDevice> {
    return this.#devices.values();
  }

  /** Where rings are served: this thread first, then its worker threads. */
  get hosts(): readonly RingHost[] {
    return [this.#hosts.local, ...this.#hosts.workers];
  }

  /**
   * Looks at the size of every image again. Rejects when that fails for some, or one has shrunk, after all were looked
   * at; see {@link BlockDevice.refresh}, which one disk alone can be refreshed with.
   */
  async refresh(): Promise<void> {
    const looks = await Promise.allSettled([...this.#devices.values()].map((device) => device.refresh()));
    const errors = looks.flatMap((look) => (look.status === 'rejected' ? [look.reason as unknown] : []));
    if (errors.length === 0) return;
    const message = errors.map(errorMessage).join('; ');
    throw new XenBlockError(codeOf(errors[0]), 'refresh', message, { cause: new AggregateError(errors) });
  }

  /**
   * Stops: answers every taken request and releases everything, leaving the devices Connected in the store, so that
   * their frontends wait for the next process.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#bus.close();
    await Promise.all(this.hosts.map((host) => host.close()));
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

  override async close(): Promise<void> {
    const name = deviceName(this.address);
    if (this.#devices.get(name) === this) this.#devices.delete(name);
    await super.close();
  }
}

async function startHosts(provider: XenProvider, { threads, plane }: CheckedOptions): Promise<RingHosts> {
  const local = new LocalRingHost(new DataPlane(provider, plane));
  const starts = Array.from({ length: threads }, () => WorkerRingHost.start(provider, plane));
  const started = await Promise.allSettled(starts);
  const workers = started.flatMap((start) => (start.status === 'fulfilled' ? [start.value] : []));
  const failed = started.find((start) => start.status === 'rejected');
  if (!failed) return { local, workers };
  await Promise.all([local, ...workers].map((host) => host.close()));
  throw failed.reason;
}
