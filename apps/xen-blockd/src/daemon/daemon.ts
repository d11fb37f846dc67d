import {
  type BlockDevice,
  type DiskStatistics,
  type ImageOpener,
  readDiskConfig,
  XenBlockBackend,
} from '@xenpv/xen-block';
import type { XenProvider } from '@xenpv/xen-sys';
import {
  backendPath,
  type DeviceAddress,
  deviceName,
  type GoneDeviceOptions,
  isDeviceGone,
  readOwnDomid,
} from '@xenpv/xenbus';
import type { XenstoreClient } from '@xenpv/xenstore';
import type { Logger } from 'pino';
import { Cleanup } from '../cleanup.js';
import type { TargetPolicy } from '../images/copy/target.js';
import { foldersOfImage, helperBounds, imageOpener } from '../images/image-opener.js';
import { Orphans } from '../images/storage-daemon/adoption/orphans.js';
import { removeLeftDirectories } from '../images/storage-daemon/helper-directory.js';
import type { HelperBounds } from '../images/storage-daemon/storage-daemon.js';
import { LimitedLog, type LimitedLogOptions } from '../log/limited-log.js';
import { deviceStatus, type Observed, unopenedStatus } from '../status/disks/device-status.js';
import type { GuestFigures, MeasuredDisk } from '../status/metrics/disk-values.js';
import type { SampledDisk } from '../status/page/history.js';
import type { BackendOptions, ImageOptions } from './backend-options.js';
import { logEvents } from './event-log.js';
import { AveragesKept } from './observed/averages-kept.js';
import { DiskErrorsKept } from './observed/disk-errors.js';
import { GuestNames } from './observed/guest-names.js';
import { HelperFailures } from './observed/helper-failures.js';
import { noteLeftErrors } from './observed/left-errors.js';
import { Xentop } from './observed/xentop.js';

export interface DaemonOptions extends ImageOptions {
  readonly provider: XenProvider;
  /** A connection of this domain; closed with the daemon. */
  readonly store: XenstoreClient;
  /** Backend types to serve. */
  readonly types: readonly string[];
  readonly logger: Logger;
  /** Where figures of vbd3 disks are for xentop; nowhere if undefined. */
  readonly xentopDirectory?: string | undefined;
  /** The backend has a default for each. */
  readonly backend?: BackendOptions;
  /** Gets each line of the log that somebody else can cause, those too that are not written. */
  readonly onLine?: LimitedLogOptions['onLine'];
}

interface Parts {
  readonly backend: XenBlockBackend;
  readonly store: XenstoreClient;
  readonly log: LimitedLog;
  readonly guestNames: GuestNames;
  readonly helperFailures: HelperFailures;
  readonly diskErrors: DiskErrorsKept;
  readonly averages: AveragesKept;
  readonly images: { options: ImageOptions };
  readonly openImage: ImageOpener;
  readonly cleanup: Cleanup;
}

/**
 * The daemon without its process, so that the demo can run it beside its guests: one connection to xenstored, one
 * block backend, the libraries' events in the log. It decides nothing about the protocol, and knows no signals and no
 * sockets. Closing it stops serving and leaves the store as it is, so that another process can adopt the disks.
 */
export class Daemon implements AsyncDisposable {
  readonly #parts: Parts;

  private constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Serves the disks that exist already too. Errors: those of the provider and of xenstored; `store` is then closed. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const { provider, store, types, logger } = options;
    const cleanup = new Cleanup();
    cleanup.use(store);
    try {
      const observed = observe(store, logger, { cleanup, onLine: options.onLine });
      const { log } = observed;
      for (const { path, error } of await removeLeftDirectories(options.helperDirectory)) {
        logger.warn({ path, reason: error.message }, 'a folder of a daemon that is gone cannot be removed');
      }
      const ownDomid = await readOwnDomid(store);
      const { helperDirectory } = options;
      const images: Parts['images'] = { options };
      const xentop = cleanup.use(new Xentop({ directory: options.xentopDirectory, store, ownDomid, logger }));
      const bounds = () => helperBounds(images.options);
      const asked = { provider, store, ownDomid };
      const orphans = helperDirectory && cleanup.use(orphansOf(helperDirectory, asked, { bounds, logger }));
      const openImage = imageOpener(() => ({ ...images.options, orphans: orphans || undefined, log }));
      const backend = cleanup.use(
        await XenBlockBackend.start({ ...options.backend, provider, store, types, ownDomid, openImage }),
      );
      xentop.start(backend);
      if (orphans) orphans.start();
      const daemon = new Daemon({ backend, store, ...observed, images, openImage, cleanup });
      observed.averages.start(() => daemon.sampledDisks());
      // Nobody waits for it. A xenstored that is away just then leaves such disks without a reason.
      void backend.settled().then(() => noteLeftErrors(backend, store, observed.diskErrors).catch(() => {}));
      return daemon;
    } catch (error) {
      await cleanup[Symbol.asyncDispose]();
      throw error;
    }
  }

  get backend(): XenBlockBackend {
    return this.#parts.backend;
  }

  /** The connection of this domain. */
  get store(): XenstoreClient {
    return this.#parts.store;
  }

  /** Lines that were left out of the log, too many of one kind. */
  get suppressedLines(): number {
    return this.#parts.log.suppressed;
  }

  /** What each guest that has disks has made the daemon do. */
  *guests(): Generator<GuestFigures> {
    for (const counters of this.backend.guests) {
      const { written, suppressed } = this.#parts.log.linesOf(counters.domid);
      yield { ...counters, logLines: written, logLinesSuppressed: suppressed };
    }
  }

  /** The disks there are now, as the metrics tell of them. */
  *measuredDisks(): Generator<MeasuredDisk> {
    this.#parts.guestNames.review();
    for (const device of this.backend.devices) yield this.#measured(device);
    for (const address of this.backend.unopened) yield this.#measuredUnopened(address);
  }

  /** One of them by its name, `qdisk-5-51712`. */
  measuredDisk(name: string): MeasuredDisk | undefined {
    for (const device of this.backend.devices) if (deviceName(device.address) === name) return this.#measured(device);
    const unopened = this.backend.unopened.find((address) => deviceName(address) === name);
    return unopened && this.#measuredUnopened(unopened);
  }

  /** The disks there are now, to be looked at again and again. */
  *sampledDisks(): Generator<SampledDisk> {
    for (const device of this.backend.devices) {
      yield { name: deviceName(device.address), identity: device, statistics: () => device.statistics() };
    }
  }

  /** The name of the guest that `qdisk-5-51712` is of, where it may be read. */
  guestOf(device: string): string | undefined {
    return this.#parts.guestNames.ofDevice(device);
  }

  /** What was seen of a disk: what went wrong, and what it did in the last minutes. */
  observedOf(device: Pick<BlockDevice, 'address'>): Observed {
    const { diskErrors, averages } = this.#parts;
    const name = deviceName(device.address);
    return { ...diskErrors.of(name), averages: averages.of(name, device) };
  }

  #measured(device: BlockDevice): MeasuredDisk {
    const { guestNames, helperFailures } = this.#parts;
    return {
      status: deviceStatus(device, this.observedOf(device)),
      format: device.config?.format,
      guest: guestNames.of(device.address.domid),
      uuid: device.config?.vm?.replace(/^\/vm\//, ''),
      helperFailures: helperFailures.of(deviceName(device.address)),
    };
  }

  #measuredUnopened(address: DeviceAddress): MeasuredDisk {
    const { guestNames } = this.#parts;
    return {
      status: unopenedStatus(address, this.observedOf({ address })),
      format: undefined,
      guest: guestNames.of(address.domid),
      uuid: undefined,
      helperFailures: 0,
    };
  }

  /**
   * How images are opened, what frontends are offered, and what disks may do in a second from now on. The disks that are
   * there keep their images and what they were offered. RangeError: a limit is out of its range, and nothing was changed.
   */
  reconfigure(images: ImageOptions, { limits, diskLimits, guestLimits }: BackendOptions): void {
    this.backend.setLimits(limits ?? {});
    this.backend.setRateLimits({ diskLimits, guestLimits });
    this.#parts.images.options = images;
  }

  /** As the backend opens images, for others than its disks. */
  get openImage(): ImageOpener {
    return this.#parts.openImage;
  }

  /** Which files images may be. */
  get imagePolicy(): TargetPolicy {
    const { directories, backingFiles, nbdHosts, helperUser } = this.#parts.images.options;
    return { directories, backingFiles, nbdHosts, helperUser };
  }

  /** Of one disk, or undefined if it is not there. */
  statistics(address: DeviceAddress): DiskStatistics | undefined {
    const name = deviceName(address);
    for (const device of this.backend.devices) if (deviceName(device.address) === name) return device.statistics();
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    let gaveUp = false;
    const timer = setTimeout(() => {
      gaveUp = true;
      void this.#parts.store.close();
    }, STORE_TIMEOUT_MS);
    try {
      await this.#parts.cleanup[Symbol.asyncDispose]();
    } catch (error) {
      if (!gaveUp) throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** How long the end waits for a xenstored that is being connected to again; its watches end without it too. */
const STORE_TIMEOUT_MS = 2000;

/** What is noted and told of what happens; all of it ends with `cleanup`. */
function observe(
  store: XenstoreClient,
  logger: Logger,
  { cleanup, onLine: told }: { readonly cleanup: Cleanup; readonly onLine: LimitedLogOptions['onLine'] },
) {
  const guestNames = cleanup.use(new GuestNames(store));
  const helperFailures = cleanup.use(new HelperFailures());
  const diskErrors = cleanup.use(new DiskErrorsKept());
  const averages = cleanup.use(new AveragesKept());
  const guestOf = (device: string) => guestNames.ofDevice(device);
  const onLine: LimitedLogOptions['onLine'] = (...said) => {
    helperFailures.logged(...said);
    diskErrors.logged(...said);
    told?.(...said);
  };
  const log = cleanup.use(new LimitedLog(logger, { guestOf, onLine }));
  cleanup.use(logEvents(log));
  return { log, guestNames, helperFailures, diskErrors, averages };
}

function orphansOf(
  directory: string,
  asked: Omit<GoneDeviceOptions, 'frontendType'>,
  { bounds, logger }: { bounds: () => HelperBounds; logger: Logger },
): Orphans {
  return new Orphans({
    directory,
    bounds,
    isGone: async (device, folder) => {
      const [, type = '', domid, devid] = /^(\w+)-(\d+)-(\d+)$/.exec(device) ?? [];
      const address = { type, domid: Number(domid), devid: Number(devid) };
      if (await isDeviceGone(address, { ...asked, frontendType: 'vbd' })) return true;
      const config = await readDiskConfig(asked.store, backendPath(asked.ownDomid, address), address);
      return !foldersOfImage(config).includes(folder);
    },
    onFailure: ({ path, error }) =>
      logger.warn({ path, reason: error.message }, 'what a daemon that is gone has left cannot be removed'),
  });
}
