import { BlkifOp, SECTOR_SIZE } from '@xenpv/blkif';
import { type BlockImage, type RefreshOptions, rmwImage } from '@xenpv/blockdev';
import { unlessAborted } from '@xenpv/xen-sys';
import {
  type BackendContext,
  type BackendHandler,
  Backoff,
  type CallOptions,
  type DeviceAddress,
  errorMessage,
  type HeldDevice,
  type KeyTexts,
  type XenstoreValues,
} from '@xenpv/xenbus';
import type { OperationOptions } from '@xenpv/xenstore';
import {
  abandonedChannel,
  closedChannel,
  connectedChannel,
  type DeviceConnectedEvent,
  disconnectedChannel,
  journalDroppedChannel,
  journalFailedChannel,
  journalMadeChannel,
  leftChannel,
  limitedChannel,
  mediumChannel,
  preparedChannel,
  refusedChannel,
  resizedChannel,
} from '../diagnostics.js';
import type { DiskConfig, DiskGeometry, DiskStop, OnError } from '../disk-description.js';
import { codeOf, XenBlockError } from '../errors.js';
import type { RingHost } from '../hosts/ring-host.js';
import { DiskLimits, type DiskLimitsChoice, type LimitsInForce } from '../limits/disk-limits.js';
import type { GuestBudgets } from '../limits/guest-budgets.js';
import type { DiskStatistics } from '../plane/accounting/statistics.js';
import { ImageRecord, type KnownImage } from '../plane/journal/image-record.js';
import { type BadRequest, badRequestText } from '../plane/requests/bad-request.js';
import type { RingListener } from '../plane/rings/ring-options.js';
import { formatRateLimits, type RateLimits } from '../rate-limits.js';
import { beforeAbort, within } from '../within.js';
import { readDiskConfig, withChangedKeys } from './config.js';
import {
  type DataPathChoice,
  DiskRings,
  type DiskRingsOptions,
  dataPathFor,
  RingLostError,
  type ServedDisk,
  type TakeOver,
} from './disk-rings.js';
import { diskGeometry } from './geometry.js';
import { asLookedAt, IncomingImage, isHandedOver } from './incoming-image.js';
import { type Negotiated, readNegotiated } from './negotiation.js';
import { deviceValues, transportValues } from './published-keys.js';
import { DiskStops } from './stops/disk-stops.js';
import { FailureKeepers, type KeptFailures } from './stops/kept-failures.js';
import { type ConnectionTerms, type ProtocolLimits, readTerms } from './terms.js';
import type { DiskTrace } from './tracing.js';
import { GrowthWatch } from './watches/growth.js';
import { StallWatch } from './watches/stall.js';

/** `512`: guests see 512-byte sectors, whatever the storage has. `image`: they see the storage's own. */
export type SectorSizePolicy = 512 | 'image';

/** For storage that is away for a moment to take what was written, before an image is exchanged. */
const SETTLE_MS = 10_000;
/** A journal that is missing is looked for so often, and not while a request is as old. */
const WATCH_JOURNALS_MS = 5000;

/**
 * Opens the image that a disk's configuration names. Never called for an empty drive. `signal` is aborted when the image
 * is not wanted any more: the toolstack removed the disk, or the backend closes.
 */
export type ImageOpener = (config: DiskConfig, options: ImageOpening) => Promise<BlockImage>;

/** What an image is opened for. */
export interface ImageOpening extends CallOptions {
  /** An earlier process may have served the disk to its frontend: what it has left for this image counts. */
  readonly offered?: boolean | undefined;
  /**
   * Of a disk whose guest is on its way from another host, which may write the image still. `look`: only that it is there and how
   * large is asked for. The configuration says read-only and shared then, so that nothing is written and no lock is taken,
   * and the image is closed at once. `take`: the guest waits for it. What is in use is asked for again and again, so
   * that an opener need not wait for it long.
   */
  readonly incoming?: 'look' | 'take' | undefined;
}

/** How another image comes in the place of one, see {@link BlockDevice.exchangeImage}. */
export interface ImageExchange {
  /** First, while the image is still open and no request is in flight: rejects, and the image stays. */
  prepare?(call: CallOptions): Promise<void>;
  /**
   * Sees to it, besides, that what the guest wrote is on stable storage: it may flush the new image next. Resolves with the
   * image's new name where that has changed, which whoever takes the disk over finds in its directory.
   */
  replace(): Promise<NamedImage | undefined>;
  /** What `replace` has done is taken back; it may have done nothing. */
  undo(): Promise<void>;
}

/** An image as a disk's configuration names it. */
export type NamedImage = Pick<DiskConfig, 'target' | 'format'>;

/** What is done when the storage of a disk fails a request. */
export type OnErrorChoice = OnError | ((config: DiskConfig) => OnError);

/** What a disk may be taken over without, because somebody says so. */
export interface TakeOverConsent {
  /** The journal of a ring: what the ring shows as unanswered is carried out, which may have been before. */
  readonly withoutJournal?: boolean | undefined;
  /** The image that the guest was served: what is there now is used. */
  readonly acceptImage?: boolean | undefined;
}

/** What a disk is served with. */
export interface BlockDeviceOptions extends DiskRingsOptions {
  /** What is offered to new connections. */
  readonly limits: ProtocolLimits;
  /** What new connections are served with. */
  readonly dataPath: DataPathChoice;
  /** Called when the device is prepared, and again when a guest from another host connects; for each medium of a drive, and after an exchange of the image. */
  readonly openImage: ImageOpener;
  /** For new connections; a frontend that an earlier process has connected keeps the `sector-size` that it knows. */
  readonly sectorSize: SectorSizePolicy;
  /** For a disk whose directory does not say. */
  readonly onError: OnErrorChoice;
  /** The age of a request, in milliseconds, at which storage that hangs is told of. */
  readonly stallMs: number;
  /** Milliseconds between looks at the sizes of files and block devices; 0 for none. */
  readonly growthMs: number;
  /** For a disk whose directory does not say. */
  readonly limitsFor: () => DiskLimitsChoice;
  /** The same for all disks of a backend: the disks of a guest share a budget. */
  readonly guestBudgets: GuestBudgets;
  /** How long a frontend that is gone waits for the storage, in milliseconds: see DataPlaneOptions. */
  readonly letGoMs: number;
  /** By device: what somebody has said for the next try to take it over. It outlasts a device that is held. */
  readonly consents: Map<string, TakeOverConsent>;
}

/** One disk or cdrom drive: what it is, what its frontend chose, and the rings that serve it. */
export class BlockDevice implements BackendHandler {
  readonly keys = ['params', 'mode', 'on-error', 'limits', 'guest-limits', 'paused'];
  readonly #context: BackendContext;
  readonly #options: BlockDeviceOptions;
  readonly #rings: DiskRings;
  readonly #stops: DiskStops;
  readonly #keepers: FailureKeepers;
  readonly #stallWatch: StallWatch;
  readonly #growthWatch: GrowthWatch;
  readonly #limits: DiskLimits;
  readonly #imageRecord: ImageRecord | undefined;
  /** Of a connection that this process makes. */
  readonly #ownTerms: ConnectionTerms;
  #terms: ConnectionTerms;
  #config: DiskConfig | undefined;
  /** The image was opened, or there is none. */
  #isPrepared = false;
  /** As it was opened; {@link image} may show it with other sectors. */
  #opened: BlockImage | undefined;
  #image: BlockImage | undefined;
  /** The guest is on its way from another host, which may have the image still: it is not open here. */
  #incoming: IncomingImage | undefined;
  #geometry: DiskGeometry | undefined;
  #negotiated: Negotiated | undefined;
  #since = new Date();
  /** Why the medium that is configured could not be loaded, or undefined. */
  #mediumFailure: MediumFailure | undefined;
  readonly #mediumBackoff = new Backoff();
  #mediumRetry: NodeJS.Timeout | undefined;
  /** The rings have a pause because somebody has paused the disk. */
  #isPaused = false;
  #closed = false;
  #journalsWatchedAt = 0;
  /** The record of which image the disk has could not be written, which was told. */
  #isImageUnknown = false;
  /** Requests of an earlier connection are at the storage, and nobody waits for them: resolves when they have ended. */
  #abandoned: Promise<void> | undefined;
  /** Connecting, media changes, resizes and moves of queues, one at a time. */
  #changes: Promise<unknown> = Promise.resolve();

  constructor(context: BackendContext, options: BlockDeviceOptions) {
    this.#context = context;
    this.#options = options;
    this.#ownTerms = { limits: options.limits };
    this.#terms = this.#ownTerms;
    this.#stops = new DiskStops(
      context.address,
      () => this.#rings,
      (stop) => this.#keepers.stopped(stop),
    );
    this.#keepers = new FailureKeepers((stopped) => this.#keepersChanged(stopped));
    this.#stallWatch = new StallWatch(context.address, options.stallMs);
    this.#growthWatch = new GrowthWatch(options.growthMs, performance.now());
    this.#limits = new DiskLimits(context.address.domid, options.guestBudgets);
    const { journalDirectory } = options;
    if (journalDirectory !== undefined) this.#imageRecord = new ImageRecord(journalDirectory, context.name);
    this.#rings = new DiskRings(context, options, this.#listener());
  }

  /** Which device it is. */
  get address(): DeviceAddress {
    return this.#context.address;
  }

  /**
   * Whether what is noted under its name is this disk's. One whose opening hung is let go of when that has ended, and
   * another one may have its name by then.
   */
  protected get isCurrent(): boolean {
    return true;
  }

  /** What the toolstack asked for, or undefined before the device is prepared. */
  get config(): DiskConfig | undefined {
    return this.#config;
  }

  /** The opened image, or undefined for an empty drive, and while another host may write it. */
  get image(): BlockImage | undefined {
    return this.#image;
  }

  /** Its sizes; undefined while they are not known. */
  get geometry(): DiskGeometry | undefined {
    return this.#geometry;
  }

  /** What the frontend chose, or undefined while it is not connected. */
  get negotiated(): Negotiated | undefined {
    return this.#negotiated;
  }

  /** Since when its frontend is connected; where it is not, since when it waits for one. */
  get since(): Date {
    return this.#since;
  }

  /** What is done when the storage fails a request, or undefined before the device is prepared. */
  get onError(): OnError | undefined {
    return this.#config && this.#onError(this.#config);
  }

  /** What the disk, and all disks of its guest together, may do in a second. */
  get limits(): LimitsInForce {
    return this.#limits.inForce;
  }

  /** Since when the disk takes no requests because somebody has paused it, or undefined. */
  get paused(): Date | undefined {
    return this.#config?.paused;
  }

  /** Why the disk takes no requests, when an error of its storage has stopped it; otherwise undefined. */
  get stopped(): DiskStop | undefined {
    return this.#stops.stop;
  }

  /**
   * Why the disk is not served though its frontend is connected, or is one that has come from another host and waits;
   * or undefined. It is tried again, see {@link retry}.
   */
  get held(): HeldDevice | undefined {
    return this.#context.held ?? this.#incoming?.waiting;
  }

  /** In words why the medium of a drive could not be loaded, which leaves it empty and is tried again; or undefined. */
  get mediumTrouble(): string | undefined {
    return this.#mediumFailure && errorMessage(this.#mediumFailure.error);
  }

  /** Since when xenstored does not know the disk, which is served on; or undefined. */
  get orphanedSince(): Date | undefined {
    return this.#context.orphanedSince;
  }

  /** Milliseconds that the oldest request is in flight, short by up to a second; requests that are kept do not count. */
  get oldestRequestMs(): number {
    return this.#rings.oldestRequest(performance.now());
  }

  /** To be called about once a second: watches for storage that hangs, and for images that grow. */
  watchStorage(): void {
    const now = performance.now();
    this.#rings.nextSpan(now);
    void this.#watchGrowth(now);
    void this.#watchJournals(now);
    const { inFlight, kept } = this.statistics();
    this.#stallWatch.look(this.oldestRequestMs, inFlight - kept);
  }

  async #watchGrowth(now: number): Promise<void> {
    // A medium that grows is being written: it is looked at when somebody says that it is whole.
    const image = this.#negotiated && this.#config?.deviceType === 'disk' ? this.#opened : undefined;
    if (await this.#growthWatch.look(image, now)) await this.refresh().catch((error) => this.#context.report(error));
  }

  /**
   * Rings without a journal, because its folder was full or is gone, get one when they can. They take a pause for it, which
   * is short unless the storage hangs or fails.
   */
  async #watchJournals(now: number): Promise<void> {
    if (now < this.#journalsWatchedAt + WATCH_JOURNALS_MS || !this.#negotiated) return;
    this.#journalsWatchedAt = now;
    if (this.stopped || this.oldestRequestMs > WATCH_JOURNALS_MS) return;
    const queues = this.#rings.queuesToNote(this.#negotiated);
    for (const queue of queues) await this.moveQueue(queue, this.#rings.hostOf(queue)).catch(() => {});
    if ((queues.length > 0 || this.#isImageUnknown) && this.#negotiated) this.#recordImage();
  }

  /**
   * Goes on after an error of the storage has stopped the disk: requests that were kept are done again, and more is
   * taken. Resolves with whether it was stopped. It stops again when the storage still fails. A disk that could not be
   * taken over is tried again, with that `consent`. `signal` ends the wait alone: the disk goes on all the same.
   */
  resume({ signal, ...consent }: TakeOverConsent & OperationOptions = {}): Promise<boolean> {
    return unlessAborted(signal, () => {
      if (!this.#negotiated) {
        this.#options.consents.set(this.#context.name, consent);
        this.retry();
      }
      return this.#stops.resume();
    });
  }

  /**
   * For work on the image that may be why its storage fails requests, as a backup whose target is full: until the result is
   * released, a request that fails stops the disk, whatever its policy, and it is done again then. So the guest sees a pause
   * and no error of that work. `onFailure` hears of each stop, and is to end the work soon. Resolves when it is in force.
   */
  keepFailures(onFailure: (stop: DiskStop) => void): Promise<KeptFailures> {
    return this.#keepers.add(onFailure);
  }

  async #keepersChanged(stopped: boolean): Promise<void> {
    if (this.#config) await this.#rings.setOnError(this.#onError(this.#config));
    if (stopped) await this.#stops.resume();
  }

  /** The backend's options have changed: what the disk's directory leaves open is as they say now. */
  reviewLimits(): void {
    this.#applyLimits();
  }

  /**
   * Notes in the disk's directory what it may do, or what all disks of its guest may do together; undefined takes the note
   * back. It is in force when this resolves, and for as long as the disk is there, whatever process serves it. `signal` ends
   * the wait alone: half a change would be one of the two, so it is made all the same, as soon as xenstored answers.
   */
  setLimits(of: 'disk' | 'guest', limits: RateLimits | undefined, { signal }: OperationOptions = {}): Promise<void> {
    return unlessAborted(signal, () => this.#setLimits(of, limits));
  }

  async #setLimits(of: 'disk' | 'guest', limits: RateLimits | undefined): Promise<void> {
    await this.#note(of === 'disk' ? 'limits' : 'guest-limits', limits && formatRateLimits(limits));
    await this.#inTurn(async () => {
      if (!this.#config) return;
      this.#changeLimits({ ...this.#config, [of === 'disk' ? 'limits' : 'guestLimits']: limits });
    });
  }

  /**
   * Has the disk take no requests, or take them again. It is noted in the disk's directory, and holds for as long as the
   * disk is there, whatever process serves it and whatever frontend connects. Nothing more is taken when this resolves;
   * {@link drain} tells when all that was taken is answered. Pausing twice changes nothing. `signal` ends the wait alone, as
   * of {@link setLimits}.
   */
  setPaused(paused: boolean, { signal }: OperationOptions = {}): Promise<void> {
    return unlessAborted(signal, () => this.#setPaused(paused));
  }

  async #setPaused(paused: boolean): Promise<void> {
    if (paused && this.paused) return;
    const since = paused ? new Date() : undefined;
    await this.#note('paused', since?.toISOString());
    await this.#inTurn(async () => {
      if (this.#config) this.#changePaused({ ...this.#config, paused: since });
    });
  }

  /** Writes a key of the disk's directory, or takes it back. */
  async #note(key: string, text: string | undefined): Promise<void> {
    const { store, backendPath } = this.#context;
    const path = `${backendPath}/${key}`;
    await store.transaction(async (transaction) => {
      // A directory that the toolstack has removed must not come back.
      if (!(await transaction.exists(`${backendPath}/state`))) throw noDirectory(backendPath);
      if (text !== undefined) await transaction.write(path, text);
      else if (await transaction.exists(path)) await transaction.remove(path);
    });
  }

  /**
   * What its requests do from then on, until the disk is gone or the result is disposed of. After `signal` was aborted
   * nothing is traced.
   */
  trace({ signal }: OperationOptions = {}): Promise<DiskTrace> {
    return this.#rings.trace(signal);
  }

  /** What it has done so far. */
  statistics(): DiskStatistics {
    return this.#rings.statistics();
  }

  /** `offered`: the frontend may have chosen from what an earlier process offered, which is kept to then. */
  async prepare(call: CallOptions & { offered: boolean }): Promise<XenstoreValues> {
    const { store, backendPath, address } = this.#context;
    const { signal } = call;
    this.#isPrepared = false;
    [this.#terms, this.#config] = await store.transaction(
      (tx) =>
        Promise.all([
          call.offered ? readTerms(tx, backendPath) : this.#ownTerms,
          readDiskConfig(tx, backendPath, address),
        ]),
      { signal },
    );
    this.#applyLimits();
    this.#applyPause();
    await this.#openImage(call);
    this.#isPrepared = true;
    const { engine } = this.#image ?? {};
    preparedChannel.publish({ address, config: this.#config, engine, geometry: this.#geometry });
    // What was offered is there.
    return call.offered ? {} : { ...transportValues(this.#terms.limits, this.#config), ...this.#guestLimitsToSay() };
  }

  /** For the next connection: nothing that an earlier process offered binds any more. */
  offer(): XenstoreValues {
    if (!this.#config || this.#terms === this.#ownTerms) return {};
    this.#terms = this.#ownTerms;
    if (!this.#incoming) {
      this.#image = this.#opened && this.#sized(this.#opened);
      this.#geometry = diskGeometry(this.#image, this.#config, this.#terms);
    }
    return transportValues(this.#terms.limits, this.#config);
  }

  /** `adopt`: an earlier process served this very connection, whose rings are adopted. */
  async connect(call: CallOptions & { adopt: boolean }): Promise<XenstoreValues> {
    // However long that takes, changes of the disk need not wait for it.
    if (this.#incoming) await this.#takeImage(this.#incoming, call);
    // Not while a medium changes: rings must not come between the old image and the new one.
    return this.#inTurn(() => this.#connect(call));
  }

  async #connect({ adopt, signal }: CallOptions & { adopt: boolean }): Promise<XenstoreValues> {
    const { store, frontendPath } = this.#context;
    const negotiated = await readNegotiated(store, frontendPath, this.#terms.limits, { signal });
    // What is written now must not be overtaken by what the earlier connection wrote.
    if (this.#abandoned) await beforeAbort(this.#abandoned, signal);
    signal.throwIfAborted();
    const { consents } = this.#options;
    const { withoutJournal, acceptImage } = consents.get(this.#context.name) ?? {};
    if (adopt && !acceptImage) this.#checkImage();
    await this.#attach(negotiated, { adopt, whenLost: withoutJournal ? 'go-on' : 'refuse' });
    consents.delete(this.#context.name);
    this.#recordImage();
    this.#stops.attached();
    this.#negotiated = negotiated;
    this.#since = new Date();
    if (connectedChannel.hasSubscribers) connectedChannel.publish(this.#connectedEvent(negotiated, { adopted: adopt }));
    return this.#deviceValues();
  }

  async #takeImage(incoming: IncomingImage, { signal }: CallOptions): Promise<void> {
    const open = () => this.#options.openImage(this.#config!, { signal, incoming: 'take' });
    this.#opened = await incoming.take(open, signal);
    this.#image = this.#sized(this.#opened);
    this.#incoming = undefined;
    await this.#setGeometry();
  }

  /** A medium that the rings cannot have, on whatever thread, leaves a drive empty, as when it is loaded. */
  async #attach(negotiated: Negotiated, taking: TakeOver): Promise<void> {
    const [opened, medium] = [this.#opened, this.#image];
    try {
      await this.#rings.attach(this.#served(negotiated), taking);
    } catch (error) {
      if (this.#config?.deviceType !== 'cdrom' || !medium) throw error;
      await this.#eject(medium);
      try {
        await this.#rings.attach(this.#served(negotiated), taking);
      } catch {
        // It was not the medium.
        [this.#opened, this.#image] = [opened, medium];
        await this.#setGeometry();
        throw error;
      }
      await medium.close();
      this.#mediumFailure = { error };
      this.#retryMedium();
      mediumChannel.publish({ address: this.address, target: this.#config.target, error });
    }
  }

  /** With `leave` the rings, their journals and what is known of the image are left to who takes the disk over. */
  async disconnect({ leave }: { leave: boolean }): Promise<void> {
    const leaves = leave && this.#options.journalDirectory !== undefined;
    // A change may wait for storage that hangs.
    if (leaves) await this.#changes;
    else await within(this.#changes, this.#options.letGoMs);
    const { count } = this.#rings;
    if (this.#negotiated) this.#since = new Date();
    this.#negotiated = undefined;
    const { inFlight, ended } = await this.#rings.detach(leaves ? 'leave' : 'fail');
    if (inFlight > 0) this.#abandon(inFlight, ended);
    if (!leaves && this.isCurrent) {
      this.#imageRecord?.remove();
      // Those of an earlier process whose rings were not adopted are nobody's now.
      await this.#rings.removeJournals();
      this.#options.consents.delete(this.#context.name);
    }
    this.#stops.disconnected(leaves ? 'leave' : 'disconnect');
    if (count > 0) disconnectedChannel.publish({ address: this.address });
  }

  /** The medium of a drive may be another one, the policy of any disk. */
  async changed(values: KeyTexts, call: CallOptions): Promise<void> {
    await this.#inTurn(async () => {
      if (!this.#config) return;
      // The values that the bus told of, and not those of now: it compares with what it told, and tells of the next ones.
      const config = withChangedKeys(this.#config, values, this.#context.backendPath);
      this.#changeOnError(config);
      this.#changeLimits(config);
      this.#changePaused(config);
      if (config.deviceType === 'cdrom') await this.#changeMedium(config, call);
    });
  }

  /** This process ends, and this disk could not be let go of in time: tells what becomes of its requests in flight. */
  tellLeft(): void {
    const { inFlight } = this.statistics();
    const noted = this.#options.journalDirectory !== undefined;
    if (inFlight > 0) leftChannel.publish({ address: this.address, inFlight, noted });
  }

  /** A disk that is held, because it cannot be served though its frontend is connected, is tried again now. */
  retry(): void {
    this.#context.retry();
  }

  async close(): Promise<void> {
    if (!this.#abandoned) await this.#changes;
    clearTimeout(this.#mediumRetry);
    this.#closed = true;
    this.#rings.endTraces();
    this.#limits.close();
    const closing = this.#image?.close();
    // An image whose storage hangs closes when that has answered, and keeps its lock until then.
    if (this.#abandoned) closing?.catch(() => {});
    else await closing;
    this.#image = undefined;
    this.#opened = undefined;
    this.#incoming = undefined;
    closedChannel.publish({ address: this.address });
  }

  /**
   * Looks at the image's size again and tells the frontend when it is another. The image is checked as when it was
   * opened; a cdrom drive takes one that became empty for no medium, and one that was empty for a new medium. Rejects
   * with EINVAL when the image is smaller than before and may not shrink, which leaves all as it is. `signal` ends the
   * wait, and the look at the image where that goes on; what it has found by then is told all the same.
   */
  refresh(options: RefreshOptions = {}): Promise<void> {
    return unlessAborted(options.signal, () => this.#inTurn(() => this.#refresh(options)));
  }

  async #refresh(options: RefreshOptions): Promise<void> {
    options.signal?.throwIfAborted();
    // One that is being opened is opened as it is now.
    if (!this.#config || !this.#isPrepared || this.#incoming) return;
    if (this.#image) await this.#resize(this.#image, options).catch((error) => this.#resizeFailed(error, options));
    else if (this.#config.target !== '') await this.#loadMedium(this.#config, untilItIsDone());
  }

  /**
   * The image gets that many bytes, and the frontend is told. A smaller image loses its end. Rejects with ENOENT before the
   * image was opened; EOPNOTSUPP for an image that is not resized here; the image's error, which leaves it as it was; the
   * errors of {@link refresh}. `signal` ends the wait alone, as of {@link setLimits}.
   */
  resize(bytes: number, { signal }: OperationOptions = {}): Promise<void> {
    return unlessAborted(signal, () => this.#resizeImage(bytes));
  }

  async #resizeImage(bytes: number): Promise<void> {
    const image = this.#image;
    const path = this.#config?.target ?? '';
    if (!image) throw new XenBlockError('ENOENT', 'resize', 'the image is not open', { path });
    if (!image.resize) throw new XenBlockError('EOPNOTSUPP', 'resize', 'the image is not resized here', { path });
    // Before it is shorter: a process that follows would take it for another image than the guest was served.
    if (this.#negotiated && bytes < image.size) this.#recordImage(bytes);
    try {
      await image.resize(bytes);
    } catch (error) {
      if (this.#negotiated) this.#recordImage();
      throw error;
    }
    await this.refresh({ mayShrink: true });
  }

  /**
   * Goes on with what `exchange` puts in the place of the image, which must have the same sectors and the same data: a new
   * layer of it, or a copy elsewhere. Requests wait in their rings meanwhile, and the image is closed while `replace` runs. When that rejects, or
   * what is there cannot be used, `undo` is called and the image opened as it was. Rejects with that error; with EBUSY for a
   * disk that is stopped or held, EINVAL for a drive, ENOENT before the image was opened; the signal's reason.
   */
  exchangeImage(exchange: ImageExchange, call: CallOptions): Promise<void> {
    return this.#inTurn(() => this.#exchangeImage(exchange, call));
  }

  /**
   * Has a queue served elsewhere from now on, unnoticed by the frontend: the taken requests are answered, then the ring
   * is attached there where it was left. Rejects when that host cannot have it; it is served where it was then. Rejects
   * with EBUSY when an error of the storage has stopped the disk.
   */
  moveQueue(queue: number, host: RingHost): Promise<void> {
    return this.#inTurn(async () => {
      const negotiated = this.#negotiated;
      if (!negotiated || !this.#rings.has(queue)) return;
      await this.#rings
        .move(queue, host, this.#served(negotiated), () => this.stopped !== undefined)
        .catch((error) => {
          if (!(error instanceof RingLostError)) throw error;
          this.#context.hold(error.cause);
        });
      this.#stops.attached();
    });
  }

  /**
   * Stops taking requests, also from rings that are attached before `undrain`; resolves when all taken requests are
   * answered. Each call needs an `undrain` of its own, even if it rejects.
   */
  drain(): Promise<void> {
    return this.#rings.pause();
  }

  /** Takes requests again. */
  undrain(): void {
    this.#rings.resume();
  }

  #abandon(inFlight: number, ended: Promise<void>): void {
    const abandoned = ended.then(() => {
      if (this.#abandoned === abandoned) this.#abandoned = undefined;
    });
    this.#abandoned = abandoned;
    abandonedChannel.publish({ address: this.address, inFlight });
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const turn = this.#changes.then(change);
    this.#changes = turn.catch(() => {});
    return turn;
  }

  async #openImage(call: ImageOpening): Promise<void> {
    const config = this.#config!;
    this.#opened = undefined;
    this.#image = undefined;
    this.#incoming = undefined;
    if (isHandedOver(config)) return this.#lookAtImage(config, call);
    if (config.target !== '') await this.#open(config, call);
    else if (config.deviceType !== 'cdrom') {
      throw new XenBlockError('ENOENT', 'prepare', 'params names no image; only a cdrom drive may be empty', {
        path: `${this.#context.backendPath}/params`,
      });
    }
    await this.#setGeometry();
  }

  async #lookAtImage(config: DiskConfig, { signal }: ImageOpening): Promise<void> {
    const image = await this.#options.openImage(asLookedAt(config), { signal, incoming: 'look' });
    this.#incoming = new IncomingImage(this.address, image);
    this.#geometry = diskGeometry(this.#sized(image), config, this.#terms);
    await image.close();
  }

  /** An empty file is a drive without a medium: libxl names one for empty drives of type vbd. */
  async #open(config: DiskConfig, call: ImageOpening): Promise<void> {
    try {
      this.#opened = await this.#options.openImage(config, call);
      this.#image = this.#sized(this.#opened);
    } catch (error) {
      if (config.deviceType !== 'cdrom' || !isEmptyImage(error)) throw error;
    }
  }

  /** Parts of the storage's sectors are written by reading the rest first. */
  #sized(image: BlockImage): BlockImage {
    const sectorSize = this.#terms.told?.sectorSize ?? this.#options.sectorSize;
    return sectorSize !== 'image' && image.sectorSize > sectorSize ? rmwImage(image, sectorSize) : image;
  }

  /** Resolves when requests are checked against it everywhere: the frontend must not hear of it before. */
  async #setGeometry(): Promise<void> {
    this.#geometry = diskGeometry(this.#image, this.#config!, this.#terms);
    await this.#rings.setGeometry(this.#geometry);
  }

  get #knownImage(): KnownImage {
    return {
      target: this.#config?.target ?? '',
      identity: this.#image?.identity ?? null,
      size: this.#image?.size ?? 0,
    };
  }

  /** Whether the rings of an earlier process are for this image. */
  #checkImage(): void {
    const { name } = this.#context;
    this.#imageRecord?.check(this.#knownImage, { name, deviceType: this.#config?.deviceType ?? 'disk' });
  }

  /** For the process after this one, which takes no image that is shorter than `size`. */
  #recordImage(size = this.#image?.size ?? 0): void {
    try {
      this.#imageRecord?.write({ ...this.#knownImage, size });
      if (this.#isImageUnknown) journalMadeChannel.publish({ address: this.address, queue: undefined });
      this.#isImageUnknown = false;
    } catch (error) {
      if (!this.#isImageUnknown) {
        journalFailedChannel.publish({ address: this.address, queue: undefined, error: error as Error });
      }
      this.#isImageUnknown = true;
    }
  }

  #served(negotiated: Negotiated): ServedDisk {
    const onError = this.#onError(this.#config!);
    const { budgets } = this.#limits;
    return { negotiated, geometry: this.#geometry!, image: this.#image, onError, dataPath: this.#dataPath, budgets };
  }

  /** A frontend that was not told so does not expect its grants to stay mapped, whatever it says of itself. */
  get #dataPath(): DataPathChoice {
    const { dataPath } = this.#options;
    return this.#terms.told?.persistent === false ? { ...dataPath, persistentPages: 0 } : dataPath;
  }

  #changeOnError({ onError }: DiskConfig): void {
    if (!this.#config || onError === this.#config.onError) return;
    this.#config = { ...this.#config, onError };
    void this.#rings.setOnError(this.#onError(this.#config));
  }

  #changeLimits({ limits, guestLimits }: DiskConfig): void {
    if (!this.#config) return;
    this.#config = { ...this.#config, limits, guestLimits };
    this.#applyLimits();
  }

  #changePaused({ paused }: DiskConfig): void {
    if (!this.#config) return;
    this.#config = { ...this.#config, paused };
    this.#applyPause();
  }

  /** Rings that are attached later have the pause too. */
  #applyPause(): void {
    const wanted = this.paused !== undefined;
    if (wanted === this.#isPaused) return;
    this.#isPaused = wanted;
    if (wanted) void this.drain().catch(() => {});
    else this.undrain();
  }

  /** Puts into force what the configuration says now, which may be what it said before. */
  #applyLimits(): void {
    if (!this.#config) return;
    const before = formatLimits(this.limits);
    this.#limits.configure(this.#config, this.#options.limitsFor());
    this.#limits.sayOfGuest(this.#config.guestLimits);
    if (formatLimits(this.limits) !== before) limitedChannel.publish({ address: this.address, ...this.limits });
  }

  /** What somebody has said of the guest counts for a disk that is added, and must outlast those that it was said to. */
  #guestLimitsToSay(): XenstoreValues {
    const said = this.#limits.saidOfGuest;
    return said && !this.#config?.guestLimits ? { 'guest-limits': formatRateLimits(said) } : {};
  }

  #onError(config: DiskConfig): OnError {
    if (this.#keepers.any) return 'stop';
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
      gaveUp: (request, count) => this.#stops.gaveUp(request, count),
      journalDropped: (reason) => journalDroppedChannel.publish({ address, reason }),
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
    await this.#rings.setGeometry(this.#geometry);
    const values = discard ? { 'feature-discard': false } : { 'feature-flush-cache': false, 'feature-barrier': false };
    await this.#context.update(values).catch((error) => this.#context.report(error));
  }

  async #resize(image: BlockImage, { mayShrink = false, signal }: RefreshOptions): Promise<void> {
    const before = this.#geometry!.sectors;
    const found = await image.refresh({ mayShrink, signal });
    const size = Math.min(found, image.size);
    if (size < before * SECTOR_SIZE && !mayShrink) {
      const sizes = `from ${before * SECTOR_SIZE} to ${size} bytes`;
      const advice = 'the guest is not told; make it longer again, or refresh this disk with --allow-shrink';
      const message = `${image.description} shrank ${sizes}: ${advice}`;
      throw new XenBlockError('EINVAL', 'refresh', message, { path: image.description });
    }
    await this.#setGeometry();
    if (this.#negotiated) this.#recordImage();
    const sectors = this.#geometry!.sectors;
    if (sectors === before) return;
    await this.#context.update({ sectors });
    resizedChannel.publish({ address: this.address, from: before, to: sectors });
  }

  async #resizeFailed(error: unknown, { mayShrink }: RefreshOptions): Promise<void> {
    const config = this.#config!;
    if (config.deviceType !== 'cdrom' || !mayShrink || !isEmptyImage(error)) throw error;
    await this.#loadMedium(config, untilItIsDone());
  }

  /** Tries a medium that failed again, for as long as it is the one that is wanted: its storage may come back. */
  #retryMedium(): void {
    clearTimeout(this.#mediumRetry);
    if (this.#closed) return;
    const retry = () =>
      this.#inTurn(async () => {
        if (!this.#mediumFailure || this.#closed) return;
        await this.#loadMedium(this.#config!, untilItIsDone());
      });
    this.#mediumRetry = setTimeout(() => void retry().catch(() => {}), this.#mediumBackoff.failed()).unref();
  }

  async #changeMedium(config: DiskConfig, call: CallOptions): Promise<void> {
    if (!isSameMedium(config, this.#config!)) {
      this.#mediumBackoff.worked();
      this.#mediumFailure = undefined;
    } else if (!this.#mediumFailure) return;
    await this.#loadMedium(config, call);
  }

  /** Ejects the medium and loads another one. One that cannot be opened, on any thread, leaves the drive empty. */
  async #loadMedium(config: DiskConfig, call: CallOptions): Promise<void> {
    const { address } = this.#context;
    const old = this.#image;
    await this.#drainFor(call);
    this.#config = config;
    let failure: MediumFailure | undefined;
    try {
      await this.#openImage(call);
      await this.#rings.setImage(this.#image);
    } catch (error) {
      failure = { error };
      await this.#eject(old).catch((cause) => this.#context.hold(cause));
    } finally {
      // Nothing is in flight: what is recovered from now on is for this medium.
      if (this.#negotiated) this.#recordImage();
      this.undrain();
    }
    this.#mediumFailure = failure;
    if (failure) this.#retryMedium();
    else this.#mediumBackoff.worked();
    await old?.close();
    await this.#context.update(this.#deviceValues());
    mediumChannel.publish({ address, target: config.target, ...failure });
  }

  async #exchangeImage(exchange: ImageExchange, call: CallOptions): Promise<void> {
    this.#exchangeable();
    const { target, format } = this.#config!;
    await this.#drainFor(call);
    try {
      await exchange.prepare?.(call);
      await this.#settle();
      // Nothing is in flight: whichever image a process after this one finds, the guest can go on with it.
      this.#imageRecord?.remove();
      await this.#closeImage();
      try {
        await this.#reopenAfter(() => exchange.replace());
      } catch (error) {
        await this.#closeImage();
        const undone = () => exchange.undo().then(() => ({ target, format }));
        await this.#reopenAfter(undone).catch((failure) => this.#context.hold(failure));
        throw error;
      }
    } finally {
      if (this.#negotiated) this.#recordImage();
      this.undrain();
    }
    await this.#context.update(this.#deviceValues()).catch((error) => this.#context.report(error));
  }

  /** The rings are paused. */
  async #settle(): Promise<void> {
    if ((await this.#image?.settle?.(SETTLE_MS)) !== false) return;
    const text = `what was written cannot be flushed within ${SETTLE_MS / 1000} seconds`;
    throw new XenBlockError('EBUSY', 'exchange', text, { path: this.#config?.target });
  }

  /** The rings are paused. */
  async #closeImage(): Promise<void> {
    await this.#rings.setImage(undefined);
    await this.#opened?.close();
  }

  /** Throws if the image cannot be exchanged now. */
  #exchangeable(): void {
    const path = this.#config?.target;
    const error = (code: 'EBUSY' | 'EINVAL' | 'ENOENT', text: string) =>
      new XenBlockError(code, 'exchange', text, path === undefined ? {} : { path });
    if (this.#config?.deviceType === 'cdrom') throw error('EINVAL', 'a drive has media: load another one');
    if (this.stopped || this.held) throw error('EBUSY', 'the disk is stopped, or held; resume it first');
    if (!this.#image) throw error('ENOENT', 'the image is not open');
  }

  async #reopenAfter(replace: () => Promise<NamedImage | undefined>): Promise<void> {
    const before = this.#geometry!;
    const named = await replace();
    if (named) this.#config = { ...this.#config!, target: named.target, format: named.format };
    // What was kept of writes to the image, and whether some are lost, is of this guest still.
    await this.#open(this.#config!, { ...untilItIsDone(), offered: true });
    const { sectors, sectorSize } = diskGeometry(this.#image, this.#config!, this.#terms);
    if (sectors !== before.sectors || sectorSize !== before.sectorSize) {
      const sizes = `${sectors} sectors of ${sectorSize} bytes, not ${before.sectors} of ${before.sectorSize}`;
      throw new XenBlockError('ERR_IMAGE_CHANGED', 'exchange', `the image in its place has ${sizes}`);
    }
    await this.#setGeometry();
    await this.#rings.setImage(this.#image);
  }

  /** The storage may hang, and the change be wanted no more. */
  async #drainFor({ signal }: CallOptions): Promise<void> {
    const drained = this.drain().catch(() => {});
    if (await beforeAbort(drained, signal)) return;
    this.undrain();
    throw signal.reason;
  }

  /** Takes the medium, which some rings may have, from all of them; `old` is the caller's to close. */
  async #eject(old: BlockImage | undefined): Promise<void> {
    const image = this.#image;
    this.#opened = undefined;
    this.#image = undefined;
    await this.#setGeometry();
    await this.#rings.setImage(undefined);
    if (image !== old) await image?.close();
  }

  #deviceValues(): XenstoreValues {
    const persistent = this.#terms.told?.persistent ?? this.#options.dataPath.persistentPages > 0;
    return deviceValues(this.#image, this.#config!, this.#geometry!, persistent);
  }

  #connectedEvent(negotiated: Negotiated, { adopted }: { adopted: boolean }): DeviceConnectedEvent {
    return {
      address: this.address,
      abi: negotiated.abi.name,
      queues: negotiated.rings.length,
      ringSlots: this.#rings.slots,
      persistent: dataPathFor(negotiated, this.#dataPath).persistentPages > 0,
      adopted,
      recovered: this.#rings.recovered,
    };
  }
}

interface MediumFailure {
  readonly error: unknown;
}

/** For what an operator asked for: nothing ends it before. */
function untilItIsDone(): CallOptions {
  return { signal: new AbortController().signal };
}

function isSameMedium(one: DiskConfig, other: DiskConfig): boolean {
  return one.target === other.target && one.format === other.format && one.readOnly === other.readOnly;
}

function noDirectory(path: string): XenBlockError {
  return new XenBlockError('ENOENT', 'limit', 'the disk is gone', { path });
}

function formatLimits({ disk, guest }: LimitsInForce): string {
  return `${formatRateLimits(disk)} ${formatRateLimits(guest)}`;
}

/** BlockDeviceError's code for a file without a byte. */
function isEmptyImage(error: unknown): boolean {
  return codeOf(error) === ('ERR_IMAGE_EMPTY' as string);
}
