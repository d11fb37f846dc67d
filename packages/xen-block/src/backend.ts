import { availableParallelism } from 'node:os';
import { MAX_SEGMENTS } from '@xenpv/blkif';
import { openFileImage } from '@xenpv/blockdev';
import { XEN_PAGE_SIZE, type XenProvider } from '@xenpv/xen-sys';
import { BackendBus, type BackendContext, deviceName } from '@xenpv/xenbus';
import type { XenstoreClient } from '@xenpv/xenstore';
import type { DiskConfig } from './disk/config.js';
import { BlockDevice, type ImageOpener, type SectorSizePolicy, type TransferPolicy } from './disk/disk.js';
import { MAX_INDIRECT_SEGMENTS, type ProtocolLimits } from './disk/published-keys.js';
import { XenBlockError } from './errors.js';
import { LocalRingHost, type RingHost } from './hosts/ring-host.js';
import { WorkerRingHost } from './hosts/worker-host.js';
import { DataPlane, type DataPlaneOptions } from './plane/data-plane.js';
import { removeStaleJournals } from './plane/journal/stale-journals.js';

export interface XenBlockBackendOptions extends DataPlaneOptions {
  readonly provider: XenProvider;
  /** A connection of the domain that the backend runs in. It stays the caller's to close. */
  readonly store: XenstoreClient;
  /** Backend types to serve. `['qdisk']` when not given. */
  readonly types?: readonly string[];
  /** The domain that this process runs in; read from the store when not given. */
  readonly ownDomid?: number;
  /** Types for which Connected waits for a hotplug script; `vbd` and `vbd3` when not given. */
  readonly hotplugTypes?: readonly string[];
  /** Delete a device's directory when the toolstack is done with it; by default in every domain but 0. */
  readonly removeDirectories?: boolean;
  /** Threads that serve rings besides this one. 0 when not given: everything on this one. */
  readonly threads?: number | undefined;
  /**
   * How data gets between guests and storage. `copy` (the default where the provider can): the hypervisor copies it
   * through our memory. `map`: every request's pages are mapped. `persistent`: pages stay mapped for frontends that
   * know how; they then copy every byte themselves.
   */
  readonly transfer?: 'copy' | 'map' | 'persistent' | undefined;
  /** With `persistent`: pages of each ring that stay mapped. 1056, as blkback. */
  readonly persistentPages?: number | undefined;
  /**
   * What guests see of storage with larger sectors. 512 when not given, which every guest understands: parts of
   * sectors are then written by reading the rest first. `image`: the storage's own size.
   */
  readonly sectorSize?: SectorSizePolicy | undefined;
  /**
   * A folder, on a file system in memory, where the requests under way are noted: a process that is started after
   * this one was killed carries them out. It must exist. None are noted when not given.
   */
  readonly journalDirectory?: string | undefined;
  /** How images are opened; by default raw files and block devices only. */
  readonly openImage?: ImageOpener;
  /** What is offered to frontends, see {@link ProtocolLimits}. */
  readonly limits?: { readonly [K in keyof ProtocolLimits]?: ProtocolLimits[K] | undefined } | undefined;
}

/** Serves every disk and cdrom drive that the toolstack creates in this domain. */
export class XenBlockBackend implements AsyncDisposable {
  readonly #bus: BackendBus;
  readonly #hosts: readonly RingHost[];
  readonly #devices: Map<string, BlockDevice>;
  #closing: Promise<void> | undefined;

  private constructor(bus: BackendBus, hosts: readonly RingHost[], devices: Map<string, BlockDevice>) {
    this.#bus = bus;
    this.#hosts = hosts;
    this.#devices = devices;
  }

  /** Devices that exist already are being taken up when it resolves. */
  static async start(options: XenBlockBackendOptions): Promise<XenBlockBackend> {
    const limits = checkedLimits(options.limits ?? {}, options.provider.features.mapMultiple);
    checkMemory(options.memoryBytes, limits);
    const hosts = await startHosts(options);
    const openImage = options.openImage ?? openRawImage;
    const transfer = transferPolicy(options);
    const { sectorSize = 512, journalDirectory } = options;
    const journal = journalDirectory === undefined ? {} : { journalDirectory };
    const devices = new Map<string, BlockDevice>();
    const createHandler = (context: BackendContext) => {
      const device = new TrackedDevice(
        context,
        { limits, hosts, openImage, transfer, sectorSize, ...journal },
        devices,
      );
      devices.set(deviceName(context.address), device);
      return device;
    };
    const { store, types = ['qdisk'], ownDomid, hotplugTypes, removeDirectories } = options;
    const bus = await BackendBus.start({
      store,
      types,
      createHandler,
      ...(ownDomid === undefined ? {} : { ownDomid }),
      ...(hotplugTypes === undefined ? {} : { hotplugTypes }),
      ...(removeDirectories === undefined ? {} : { removeDirectories }),
    });
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
    return this.#hosts;
  }

  /** Looks at the size of every image again. */
  async refresh(): Promise<void> {
    await Promise.all([...this.#devices.values()].map((device) => device.refresh()));
  }

  /**
   * Stops: answers every request that was taken and releases everything, leaving the devices Connected in the store,
   * so that their frontends wait for the next process.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#bus.close();
    await Promise.all(this.#hosts.map((host) => host.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Leaves the list of devices when it is closed. */
class TrackedDevice extends BlockDevice {
  readonly #devices: Map<string, BlockDevice>;

  constructor(
    context: BackendContext,
    options: ConstructorParameters<typeof BlockDevice>[1],
    devices: Map<string, BlockDevice>,
  ) {
    super(context, options);
    this.#devices = devices;
  }

  override async close(): Promise<void> {
    const name = deviceName(this.address);
    if (this.#devices.get(name) === this) this.#devices.delete(name);
    await super.close();
  }
}

function transferPolicy({
  provider,
  transfer = 'copy',
  persistentPages = 1056,
}: XenBlockBackendOptions): TransferPolicy {
  checkLimit('persistentPages', persistentPages, 1, 1 << 20);
  const once = transfer === 'map' || !provider.features.grantCopy ? 'map' : 'copy';
  return { transfer: once, persistentPages: transfer === 'persistent' ? persistentPages : 0 };
}

async function startHosts({ provider, threads = 0, ...rest }: XenBlockBackendOptions): Promise<RingHost[]> {
  checkLimit('threads', threads, 0, 256);
  const options = dataPlaneOptions(rest);
  const local = new LocalRingHost(new DataPlane(provider, options));
  const starts = Array.from({ length: threads }, () => WorkerRingHost.start(provider, options));
  const started = await Promise.allSettled(starts);
  const hosts: RingHost[] = [local];
  for (const start of started) if (start.status === 'fulfilled') hosts.push(start.value);
  const failed = started.find((start) => start.status === 'rejected');
  if (!failed) return hosts;
  await Promise.all(hosts.map((host) => host.close()));
  throw failed.reason;
}

function dataPlaneOptions({ memoryBytes, pollMicroseconds = 0 }: DataPlaneOptions): DataPlaneOptions {
  checkLimit('pollMicroseconds', pollMicroseconds, 0, 10_000);
  return { pollMicroseconds, ...(memoryBytes === undefined ? {} : { memoryBytes }) };
}

/** A ring of several pages takes a mapping of several pages. */
function checkedLimits(limits: NonNullable<XenBlockBackendOptions['limits']>, mapMultiple: boolean): ProtocolLimits {
  const all = {
    maxRingPageOrder: mapMultiple ? (limits.maxRingPageOrder ?? 4) : 0,
    maxQueues: limits.maxQueues ?? availableParallelism(),
    maxIndirectSegments: limits.maxIndirectSegments ?? 256,
  };
  checkLimit('maxRingPageOrder', all.maxRingPageOrder, 0, 4);
  checkLimit('maxQueues', all.maxQueues, 1, 256);
  checkLimit('maxIndirectSegments', all.maxIndirectSegments, 0, MAX_INDIRECT_SEGMENTS);
  return all;
}

/** Room for the largest request and its segments, always: otherwise it would wait for ever. */
function checkMemory(bytes: number | undefined, { maxIndirectSegments }: ProtocolLimits): void {
  const least = 2 * Math.max(maxIndirectSegments, MAX_SEGMENTS) * XEN_PAGE_SIZE;
  if (bytes === undefined || (bytes >= least && Number.isInteger(Math.log2(bytes)))) return;
  throw new RangeError(`memoryBytes is ${bytes}; expected a power of two from ${least} on`);
}

function checkLimit(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new RangeError(`${name} is ${value}; expected a whole number from ${least} to ${most}`);
}

/** Raw files and block devices. */
export async function openRawImage(config: DiskConfig): Promise<import('@xenpv/blockdev').BlockImage> {
  if (config.format !== 'raw') {
    throw new XenBlockError('ENOTSUP', 'prepare', `image format "${config.format}" is not served; expected raw (aio)`);
  }
  return openFileImage(config.target, { readOnly: config.readOnly, ...(config.direct ? { direct: true } : {}) });
}
