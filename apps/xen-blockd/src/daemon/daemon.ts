import { type DiskStatistics, XenBlockBackend, type XenBlockBackendOptions } from '@xenpv/xen-block';
import type { XenProvider } from '@xenpv/xen-sys';
import { type DeviceAddress, deviceName } from '@xenpv/xenbus';
import type { XenstoreClient } from '@xenpv/xenstore';
import type { Logger } from 'pino';
import { type ImageOpenerOptions, imageOpener } from '../images/image-opener.js';
import { Cleanup } from './cleanup.js';
import { logEvents } from './event-log.js';

export interface DaemonOptions extends ImageOpenerOptions {
  readonly provider: XenProvider;
  /** A connection of this domain; closed with the daemon. */
  readonly store: XenstoreClient;
  /** Backend types to serve. */
  readonly types: readonly string[];
  readonly logger: Logger;
  /** Threads, ways of the data, limits: what the backend has defaults for. */
  readonly tuning?: Tuning;
}

export type Tuning = Pick<
  XenBlockBackendOptions,
  'threads' | 'dataPath' | 'persistentPages' | 'pollMicroseconds' | 'sectorSize' | 'journalDirectory' | 'limits'
>;

/**
 * The daemon without its process: one connection to xenstored, one block backend, events in the log. Closing it stops
 * serving and leaves the store as it is, so that another process can take over.
 */
export class Daemon implements AsyncDisposable {
  readonly backend: XenBlockBackend;
  readonly #store: XenstoreClient;
  readonly #cleanup: Cleanup;

  private constructor(backend: XenBlockBackend, store: XenstoreClient, cleanup: Cleanup) {
    this.backend = backend;
    this.#store = store;
    this.#cleanup = cleanup;
  }

  /** Disks that exist already are taken up. Errors: those of the provider and of xenstored; `store` is closed then too. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const { provider, store, types, logger } = options;
    const cleanup = new Cleanup();
    cleanup.use(store);
    try {
      cleanup.use(logEvents(logger));
      const backend = cleanup.use(
        await XenBlockBackend.start({ ...options.tuning, provider, store, types, openImage: imageOpener(options) }),
      );
      return new Daemon(backend, store, cleanup);
    } catch (error) {
      await cleanup[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Undefined for a disk that is not there. */
  statistics(address: DeviceAddress): DiskStatistics | undefined {
    const name = deviceName(address);
    for (const device of this.backend.devices) if (deviceName(device.address) === name) return device.statistics();
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    let gaveUp = false;
    const timer = setTimeout(() => {
      gaveUp = true;
      void this.#store.close();
    }, STORE_TIMEOUT_MS);
    try {
      await this.#cleanup[Symbol.asyncDispose]();
    } catch (error) {
      if (!gaveUp) throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** How long the end waits for a xenstored that is being connected to again; its watches end without it too. */
const STORE_TIMEOUT_MS = 2000;
