import { BlkifOp } from '@xenpv/blkif';
import { type BlockImage, rmwImage } from '@xenpv/blockdev';
import type { BackendContext, BackendHandler, DeviceAddress, XenstoreValues } from '@xenpv/xenbus';
import {
  closedChannel,
  connectedChannel,
  type DeviceConnectedEvent,
  disconnectedChannel,
  mediumChannel,
  preparedChannel,
  refusedChannel,
  resizedChannel,
} from '../diagnostics.js';
import type { DiskConfig, DiskGeometry, DiskStop, OnError } from '../disk-description.js';
import { XenBlockError } from '../errors.js';
import type { RingHost } from '../hosts/ring-host.js';
import type { DiskStatistics } from '../plane/accounting/statistics.js';
import { type BadRequest, badRequestText } from '../plane/requests/bad-request.js';
import type { RingListener } from '../plane/rings/ring-options.js';
import { readDiskConfig } from './config.js';
import { DiskRings, type DiskRingsOptions, dataPathFor, type ServedDisk } from './disk-rings.js';
import { DiskStops } from './disk-stops.js';
import { diskGeometry } from './geometry.js';
import type { ProtocolLimits } from './limits.js';
import { type Negotiated, readNegotiated } from './negotiation.js';
import { deviceValues, transportValues } from './published-keys.js';
import { StallWatch } from './stall.js';

/** `512`: guests see 512-byte sectors, whatever the storage has. `image`: they see the storage's own. */
export type SectorSizePolicy = 512 | 'image';

/** Opens the image that a disk's configuration names. Never called for an empty drive. */
export type ImageOpener = (config: DiskConfig) => Promise<BlockImage>;

/** What is done when the storage of a disk fails a request. */
export type OnErrorChoice = OnError | ((config: DiskConfig) => OnError);

export interface BlockDeviceOptions extends DiskRingsOptions {
  readonly limits: ProtocolLimits;
  readonly openImage: ImageOpener;
  readonly sectorSize: SectorSizePolicy;
  /** For a disk whose directory does not say. */
  readonly onError: OnErrorChoice;
  /** The age of a request, in milliseconds, at which storage that hangs is told of. */
  readonly stallMs: number;
  /** Whether this process stops, so that requests that are kept are left to the next one. */
  readonly life: { readonly leaving: boolean };
}

/** One disk or cdrom drive: what it is, what its frontend chose, and the rings that serve it. */
export class BlockDevice implements BackendHandler {
  readonly #context: BackendContext;
  readonly #options: BlockDeviceOptions;
  readonly #rings: DiskRings;
  readonly #stops: DiskStops;
  readonly #stallWatch: StallWatch;
  #config: DiskConfig | undefined;
  #image: BlockImage | undefined;
  #geometry: DiskGeometry | undefined;
  #negotiated: Negotiated | undefined;
  /** Media changes, resizes and moves of queues, one at a time. */
  #changes: Promise<unknown> = Promise.resolve();

  constructor(context: BackendContext, options: BlockDeviceOptions) {
    this.#context = context;
    this.#options = options;
    this.#stops = new DiskStops(context.address, () => this.#rings);
    this.#stallWatch = new StallWatch(context.address, options.stallMs);
    this.#rings = new DiskRings(context, options, this.#listener());
  }

  get address(): DeviceAddress {
    return this.#context.address;
  }

  /** What the toolstack asked for, or undefined before the device is prepared. */
  get config(): DiskConfig | undefined {
    return this.#config;
  }

  /** The opened image, or undefined for an empty drive. */
  get image(): BlockImage | undefined {
    return this.#image;
  }

  get geometry(): DiskGeometry | undefined {
    return this.#geometry;
  }

  /** What the frontend chose, or undefined while it is not connected. */
  get negotiated(): Negotiated | undefined {
    return this.#negotiated;
  }

  /** What is done when the storage fails a request, or undefined before the device is prepared. */
  get onError(): OnError | undefined {
    return this.#config && this.#onError(this.#config);
  }

  /** Why the disk takes no requests, when an error of its storage has stopped it; otherwise undefined. */
  get stopped(): DiskStop | undefined {
    return this.#stops.stop;
  }

  /** Milliseconds that the oldest request is in flight, short by up to a second; requests that are kept do not count. */
  get oldestRequestMs(): number {
    return this.#rings.oldestRequest(performance.now());
  }

  /** To be called about once a second: watches for storage that hangs. */
  watchStorage(): void {
    this.#rings.nextSpan(performance.now());
    const { inFlight, kept } = this.statistics();
    this.#stallWatch.look(this.oldestRequestMs, inFlight - kept);
  }

  /**
   * Goes on after an error of the storage has stopped the disk: requests that were kept are done again, and more is
   * taken. Resolves with whether it was stopped. It stops again when the storage still fails.
   */
  resume(): Promise<boolean> {
    return this.#stops.resume();
  }

  statistics(): DiskStatistics {
    return this.#rings.statistics();
  }

  async prepare(): Promise<XenstoreValues> {
    const { store, backendPath, address } = this.#context;
    this.#config = await readDiskConfig(store, backendPath, address);
    await this.#openImage();
    const { engine } = this.#image ?? {};
    preparedChannel.publish({ address, config: this.#config, engine, geometry: this.#geometry });
    return transportValues(this.#options.limits, this.#config);
  }

  /** `adopt`: an earlier process served this very connection, whose rings are adopted. */
  async connect({ adopt }: { adopt: boolean }): Promise<XenstoreValues> {
    const negotiated = await readNegotiated(this.#context.store, this.#context.frontendPath, this.#options.limits);
    await this.#rings.attach(this.#served(negotiated), { adopt });
    this.#stops.attached();
    this.#negotiated = negotiated;
    if (connectedChannel.hasSubscribers) connectedChannel.publish(this.#connectedEvent(negotiated, { adopted: adopt }));
    return this.#deviceValues();
  }

  async disconnect(): Promise<void> {
    await this.#changes;
    const { count } = this.#rings;
    this.#negotiated = undefined;
    const leaves = this.#options.life.leaving && this.#options.journalDirectory !== undefined;
    await this.#rings.detach(leaves ? 'leave' : 'fail');
    this.#stops.disconnected(leaves ? 'leave' : 'disconnect');
    if (count > 0) disconnectedChannel.publish({ address: this.address });
  }

  changed(key: string): void {
    if (key === 'on-error') void this.#inTurn(() => this.#changeOnError());
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
   * Has a queue served elsewhere from now on, unnoticed by the frontend: the taken requests are answered, then the ring
   * is attached there where it was left. Rejects with EBUSY when an error of the storage has stopped the disk.
   */
  moveQueue(queue: number, host: RingHost): Promise<void> {
    return this.#inTurn(async () => {
      const negotiated = this.#negotiated;
      if (!negotiated || !this.#rings.has(queue)) return;
      const error = await this.#rings.move(queue, host, this.#served(negotiated), () => this.stopped !== undefined);
      if (error) this.#context.fail(error);
      this.#stops.attached();
    });
  }

  /** Stops taking requests; resolves when all taken requests are answered. */
  drain(): Promise<void> {
    return this.#rings.pause();
  }

  /** Takes requests again. */
  undrain(): void {
    this.#rings.resume();
  }

  #inTurn(change: () => Promise<void>): Promise<void> {
    const turn = this.#changes.then(change);
    this.#changes = turn.catch(() => {});
    return turn;
  }

  async #openImage(): Promise<void> {
    const config = this.#config!;
    this.#image = undefined;
    if (config.target !== '') this.#image = this.#sized(await this.#options.openImage(config));
    else if (config.deviceType !== 'cdrom') {
      throw new XenBlockError('ENOENT', 'prepare', 'params names no image; only a cdrom drive may be empty', {
        path: `${this.#context.backendPath}/params`,
      });
    }
    this.#setGeometry();
  }

  /** Parts of the storage's sectors are written by reading the rest first. */
  #sized(image: BlockImage): BlockImage {
    const { sectorSize } = this.#options;
    return sectorSize !== 'image' && image.sectorSize > sectorSize ? rmwImage(image, sectorSize) : image;
  }

  #setGeometry(): void {
    this.#geometry = diskGeometry(this.#image, this.#config!, this.#options.limits);
    this.#rings.setGeometry(this.#geometry);
  }

  #served(negotiated: Negotiated): ServedDisk {
    return { negotiated, geometry: this.#geometry!, image: this.#image, onError: this.#onError(this.#config!) };
  }

  async #changeOnError(): Promise<void> {
    const { store, backendPath, address } = this.#context;
    if (!this.#config) return;
    const { onError } = await readDiskConfig(store, backendPath, address);
    this.#config = { ...this.#config, onError };
    this.#rings.setOnError(this.#onError(this.#config));
  }

  #onError(config: DiskConfig): OnError {
    const { onError } = this.#options;
    return config.onError ?? (typeof onError === 'string' ? onError : onError(config));
  }

  #listener(): RingListener {
    const { address } = this.#context;
    return {
      badRequest: (reason, count) => {
        if (!refusedChannel.hasSubscribers) return;
        refusedChannel.publish({ address, reason: badRequestText(reason as BadRequest), count });
      },
      unsupported: (operation) => void this.#takeBack(operation),
      storageError: (failure, count) => this.#stops.storageError(failure, count),
      stopped: (failure) => this.#stops.stopped(failure),
      broken: (error) => this.#context.fail(error),
    };
  }

  /** The storage refused an operation that it had promised: the frontend is told not to use it any more. */
  async #takeBack(operation: number): Promise<void> {
    const discard = operation === BlkifOp.discard;
    const before = this.#geometry!;
    if (discard ? !before.discard : !before.flush) return;
    this.#geometry = discard ? { ...before, discard: false, secureDiscard: false } : { ...before, flush: false };
    this.#rings.setGeometry(this.#geometry);
    const values = discard ? { 'feature-discard': false } : { 'feature-flush-cache': false, 'feature-barrier': false };
    await this.#context.update(values).catch((error) => this.#context.fail(error));
  }

  /** Ejects the medium and loads the one that params names now. A medium that cannot be opened leaves the drive empty. */
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
    await this.#rings.setImage(this.#image);
    this.undrain();
    await old?.close();
    await this.#context.update(this.#deviceValues());
    mediumChannel.publish({ address, target: config.target, ...(error === undefined ? {} : { error }) });
  }

  #deviceValues(): XenstoreValues {
    return deviceValues(this.#image, this.#config!, this.#geometry!, this.#options.dataPath.persistentPages > 0);
  }

  #connectedEvent(negotiated: Negotiated, { adopted }: { adopted: boolean }): DeviceConnectedEvent {
    return {
      address: this.address,
      abi: negotiated.abi.name,
      queues: negotiated.rings.length,
      ringSlots: this.#rings.slots,
      persistent: dataPathFor(negotiated, this.#options.dataPath).persistentPages > 0,
      adopted,
    };
  }
}
