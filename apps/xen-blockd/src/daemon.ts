import { type DiskStatistics, XenBlockBackend } from '@xenpv/xen-block';
import type { XenProvider } from '@xenpv/xen-sys';
import type { DeviceAddress } from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import type { Logger } from 'pino';
import { Cleanup } from './cleanup.js';
import { logEvents } from './event-log.js';
import { type ImageOpenerOptions, imageOpener } from './image-opener.js';

export interface DaemonOptions extends ImageOpenerOptions {
  readonly provider: XenProvider;
  /** Backend types to serve. */
  readonly types: readonly string[];
  readonly logger: Logger;
}

/**
 * The daemon without its process: one connection to xenstored, one block backend, events in the log. Closing it stops
 * serving and leaves the store as it is, so that another process can take over.
 */
export class Daemon implements AsyncDisposable {
  readonly backend: XenBlockBackend;
  readonly store: XenstoreClient;
  readonly #cleanup: Cleanup;

  private constructor(backend: XenBlockBackend, store: XenstoreClient, cleanup: Cleanup) {
    this.backend = backend;
    this.store = store;
    this.#cleanup = cleanup;
  }

  /** Disks that exist already are taken up. Errors: those of the provider and of xenstored. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const { provider, types, logger } = options;
    const cleanup = new Cleanup();
    try {
      const store = cleanup.use(XenstoreClient.open(await provider.connectXenstore()));
      cleanup.use(logEvents(logger));
      const backend = cleanup.use(
        await XenBlockBackend.start({ provider, store, types, openImage: imageOpener(options) }),
      );
      return new Daemon(backend, store, cleanup);
    } catch (error) {
      await cleanup[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Undefined for a disk that is not there. */
  statistics(address: DeviceAddress): DiskStatistics | undefined {
    return this.backend.statistics(address);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#cleanup[Symbol.asyncDispose]();
  }
}
