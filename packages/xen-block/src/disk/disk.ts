import { BlkifOp } from '@xenpv/blkif';
import { type BlockImage, rmwImage } from '@xenpv/blockdev';
import type { BackendContext, BackendHandler, DeviceAddress, XenstoreValues } from '@xenpv/xenbus';
import {
  closedChannel,
  connectedChannel,
  disconnectedChannel,
  journalFailedChannel,
  mediumChannel,
  preparedChannel,
  refusedChannel,
  resizedChannel,
} from '../diagnostics.js';
import { XenBlockError } from '../errors.js';
import { chooseHost, type RingHost } from '../hosts/ring-host.js';
import { type DiskStatistics, RingCounters, readStatistics } from '../plane/counters.js';
import type { ServedRing } from '../plane/data-plane.js';
import { journalPath } from '../plane/journal/ring-journal.js';
import { type BadRequest, badRequestText } from '../plane/requests/bad-request.js';
import type { DiskGeometry } from '../plane/requests/check.js';
import type { RingListener, RingOptions, Transfer } from '../plane/ring.js';
import { type DiskConfig, readDiskConfig } from './config.js';
import { type Negotiated, readNegotiated } from './negotiation.js';
import { deviceValues, diskGeometry, type ProtocolLimits, transportValues } from './published-keys.js';

/** How data gets to the storage, see {@link Transfer}. */
export interface TransferPolicy {
  /** For frontends without persistent grants. */
  readonly transfer: Transfer;
  /** Pages of each ring that may stay mapped; above 0 persistent grants are offered. */
  readonly persistentPages: number;
}

/** `512`: guests see 512-byte sectors, whatever the storage has. `image`: they see the storage's own. */
export type SectorSizePolicy = 512 | 'image';

/** Opens what a disk's configuration names. Never called for an empty drive. */
export type ImageOpener = (config: DiskConfig) => Promise<BlockImage>;

export interface BlockDeviceOptions {
  readonly limits: ProtocolLimits;
  readonly hosts: readonly RingHost[];
  readonly openImage: ImageOpener;
  readonly transfer: TransferPolicy;
  readonly sectorSize: SectorSizePolicy;
  /** A folder for the journals of the rings; none are kept when not given. */
  readonly journalDirectory?: string;
}

/** One disk or cdrom drive: what it is, what its frontend chose, and the rings that serve it. */
export class BlockDevice implements BackendHandler {
  readonly #context: BackendContext;
  readonly #o: BlockDeviceOptions;
  readonly #counters: RingCounters[] = [];
  #config: DiskConfig | undefined;
  #image: BlockImage | undefined;
  #geometry: DiskGeometry | undefined;
  #negotiated: Negotiated | undefined;
  #rings: ServedRing[] = [];
  /** Media changes and resizes, one at a time. */
  #changes: Promise<unknown> = Promise.resolve();

  constructor(context: BackendContext, options: BlockDeviceOptions) {
    this.#context = context;
    this.#o = options;
  }

  get address(): DeviceAddress {
    return this.#context.address;
  }

  /** What the toolstack asked for; undefined before the device is prepared. */
  get config(): DiskConfig | undefined {
    return this.#config;
  }

  /** The opened image; undefined for an empty drive. */
  get image(): BlockImage | undefined {
    return this.#image;
  }

  get geometry(): DiskGeometry | undefined {
    return this.#geometry;
  }

  /** What the frontend chose; undefined while it is not connected. */
  get negotiated(): Negotiated | undefined {
    return this.#negotiated;
  }

  statistics(): DiskStatistics {
    return readStatistics(this.#counters.map((counters) => counters.buffer));
  }

  async prepare(): Promise<XenstoreValues> {
    const { store, backendPath, address } = this.#context;
    this.#config = await readDiskConfig(store, backendPath, address);
    await this.#openImage();
    const { engine } = this.#image ?? {};
    preparedChannel.publish({ address, config: this.#config, engine, geometry: this.#geometry });
    return transportValues(this.#o.limits, this.#config);
  }

  async connect({ reattach }: { reattach: boolean }): Promise<XenstoreValues> {
    const negotiated = await readNegotiated(this.#context.store, this.#context.frontendPath, this.#o.limits);
    await this.#attachRings(negotiated, reattach);
    this.#negotiated = negotiated;
    if (connectedChannel.hasSubscribers) this.#announce(negotiated, reattach);
    return this.#deviceValues();
  }

  async disconnect(): Promise<void> {
    await this.#changes;
    const rings = this.#rings;
    this.#rings = [];
    this.#negotiated = undefined;
    await Promise.all(rings.map((ring) => ring.detach()));
    if (rings.length > 0) disconnectedChannel.publish({ address: this.address });
  }

  changed(key: string): void {
    if (key === 'params' && this.#config?.deviceType === 'cdrom') void this.#inTurn(() => this.#changeMedium());
  }

  async close(): Promise<void> {
    await this.#changes;
    await this.#image?.close();
    this.#image = undefined;
    closedChannel.publish({ address: this.address });
  }

  /** Looks at the image's size again and tells the frontend when it is another. */
  refresh(): Promise<void> {
    return this.#inTurn(async () => {
      if (!this.#image) return;
      const before = this.#geometry!.sectors;
      await this.#image.refresh();
      this.#setGeometry();
      const sectors = this.#geometry!.sectors;
      if (sectors === before) return;
      await this.#context.update({ sectors });
      resizedChannel.publish({ address: this.address, from: before, to: sectors });
    });
  }

  /**
   * Has a queue served elsewhere from now on, without the frontend's noticing: what was taken is answered, then the
   * ring is taken up there where it was left.
   */
  moveQueue(queue: number, host: RingHost): Promise<void> {
    return this.#inTurn(async () => {
      const negotiated = this.#negotiated;
      if (!negotiated || !this.#rings[queue]) return;
      await this.#rings[queue].detach();
      try {
        this.#rings[queue] = await this.#attachRing(host, negotiated, queue, false);
      } catch (cause) {
        this.#context.fail(ringError(cause, queue));
      }
    });
  }

  /** Stops taking requests; resolves when all that were taken are answered. */
  async drain(): Promise<void> {
    await Promise.all(this.#rings.map((ring) => ring.pause()));
  }

  /** Takes requests again. */
  undrain(): void {
    for (const ring of this.#rings) ring.resume();
  }

  #inTurn(change: () => Promise<void>): Promise<void> {
    const turn = this.#changes.then(change);
    this.#changes = turn.catch(() => {});
    return turn;
  }

  async #openImage(): Promise<void> {
    const config = this.#config!;
    this.#image = undefined;
    if (config.target !== '') this.#image = this.#sized(await this.#o.openImage(config));
    else if (config.deviceType !== 'cdrom') {
      throw new XenBlockError('ENOENT', 'prepare', 'params names no image; only a cdrom drive may be empty', {
        path: `${this.#context.backendPath}/params`,
      });
    }
    this.#setGeometry();
  }

  /** Parts of the storage's sectors are written by reading the rest first. */
  #sized(image: BlockImage): BlockImage {
    const { sectorSize } = this.#o;
    return sectorSize !== 'image' && image.sectorSize > sectorSize ? rmwImage(image, sectorSize) : image;
  }

  #setGeometry(): void {
    this.#geometry = diskGeometry(this.#image, this.#config!, this.#o.limits);
    for (const ring of this.#rings) ring.setGeometry(this.#geometry);
  }

  /** All rings or none. */
  async #attachRings(negotiated: Negotiated, reattach: boolean): Promise<void> {
    const attached: ServedRing[] = [];
    try {
      for (let queue = 0; queue < negotiated.rings.length; queue++) {
        const host = chooseHost(this.#o.hosts, this.#image);
        attached.push(await this.#attachRing(host, negotiated, queue, reattach));
      }
    } catch (cause) {
      await Promise.all(attached.map((ring) => ring.detach()));
      throw ringError(cause, attached.length);
    }
    this.#rings = attached;
  }

  /** Serving without a journal is better than not serving. */
  async #attachRing(host: RingHost, negotiated: Negotiated, queue: number, resume: boolean): Promise<ServedRing> {
    const options = this.#ringOptions(negotiated, queue);
    const { journalDirectory } = this.#o;
    if (journalDirectory === undefined) return host.attach(options);
    const path = journalPath(journalDirectory, this.#context.name, queue);
    try {
      return await host.attach({ ...options, journal: { path, resume } });
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_JOURNAL') throw error;
      journalFailedChannel.publish({ address: this.address, queue, error });
      return host.attach(options);
    }
  }

  #ringOptions(negotiated: Negotiated, queue: number): RingOptions {
    const { address, name } = this.#context;
    this.#counters[queue] ??= new RingCounters();
    return {
      ...negotiated.rings[queue],
      name: `${name}/${queue}`,
      domid: address.domid,
      abi: negotiated.abi,
      geometry: this.#geometry!,
      image: this.#image,
      counters: this.#counters[queue],
      listener: this.#listener(),
      ...ringTransfer(this.#o.transfer, negotiated),
    };
  }

  #listener(): RingListener {
    const { address } = this.#context;
    return {
      badRequest: (reason, count) => {
        if (!refusedChannel.hasSubscribers) return;
        refusedChannel.publish({ address, reason: badRequestText(reason as BadRequest), count });
      },
      unsupported: (operation) => void this.#takeBack(operation),
      broken: (error) => this.#context.fail(error),
    };
  }

  /** The storage refused an operation that it had promised: the frontend is told not to use it any more. */
  async #takeBack(operation: number): Promise<void> {
    const discard = operation === BlkifOp.discard;
    const before = this.#geometry!;
    if (discard ? !before.discard : !before.flush) return;
    this.#geometry = discard ? { ...before, discard: false, secureDiscard: false } : { ...before, flush: false };
    for (const ring of this.#rings) ring.setGeometry(this.#geometry);
    const values = discard ? { 'feature-discard': false } : { 'feature-flush-cache': false, 'feature-barrier': false };
    await this.#context.update(values).catch((error) => this.#context.fail(error));
  }

  /** Ejects the medium and puts in what params names now. A medium that cannot be opened leaves the drive empty. */
  async #changeMedium(): Promise<void> {
    const { store, backendPath, address } = this.#context;
    const old = this.#image;
    const config = await readDiskConfig(store, backendPath, address);
    if (config.target === this.#config!.target) return;
    this.#config = config;
    let error: unknown;
    await this.drain();
    await this.#openImage().catch((cause) => {
      error = cause;
      this.#setGeometry();
    });
    await Promise.all(this.#rings.map((ring) => ring.setImage(this.#image)));
    this.undrain();
    await old?.close();
    await this.#context.update(this.#deviceValues());
    mediumChannel.publish({ address, target: config.target, ...(error === undefined ? {} : { error }) });
  }

  #deviceValues(): XenstoreValues {
    return deviceValues(this.#image, this.#config!, this.#geometry!, this.#o.transfer.persistentPages > 0);
  }

  #announce(negotiated: Negotiated, reattached: boolean): void {
    connectedChannel.publish({
      address: this.address,
      abi: negotiated.abi.name,
      queues: negotiated.rings.length,
      ringSlots: this.#rings[0].size,
      persistent: ringTransfer(this.#o.transfer, negotiated).persistentPages > 0,
      reattached,
    });
  }
}

function ringTransfer({ transfer, persistentPages }: TransferPolicy, { persistent }: Negotiated): TransferPolicy {
  if (persistent && persistentPages > 0) return { transfer: 'map', persistentPages };
  return { transfer, persistentPages: 0 };
}

/** A ring that the frontend described wrongly, in terms of its keys. */
function ringError(cause: unknown, queue: number): XenBlockError {
  const { code = 'EIO', message } = cause as { code?: string; message: string };
  return new XenBlockError(code, 'connect', `ring ${queue} of the frontend cannot be used: ${message}`, { cause });
}
