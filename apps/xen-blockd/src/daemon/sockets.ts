import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { backendPath, errorMessage, frontendPath } from '@xenpv/xenbus';
import type { Logger } from 'pino';
import { Cleanup } from '../cleanup.js';
import { ControlServer } from '../control/control-server.js';
import type { Controlled } from '../control/controlled.js';
import { FRONTEND_TYPE } from '../control/disks/disk-keys.js';
import { errorCode } from '../errors.js';
import type { MetricsSource } from '../status/metrics/scrape.js';
import { listenForMetrics } from '../status/metrics/server.js';
import { DiskKeysReader } from '../status/page/disk-keys.js';
import { PageServer, type PageSource } from '../status/page/page-server.js';
import type { Config } from './config.js';
import type { Daemon } from './daemon.js';
import { KeptServer } from './kept-server.js';
import { XenstoreState } from './observed/xenstore-state.js';

/** What the sockets tell besides the disks. */
export interface SocketsOptions {
  /** Lines of the log that could not be written. */
  readonly linesLost?: (() => number) | undefined;
  /** The configuration file, if there is one. */
  readonly configuration?: string | undefined;
}

/** The sockets on which the process is asked about its disks: the control socket, the metrics and the page. */
export class Sockets implements AsyncDisposable {
  readonly #logger: Logger;
  readonly #linesLost: () => number;
  readonly #cleanup = new Cleanup();
  readonly #xenstore = this.#cleanup.use(new XenstoreState());
  #metrics: KeptServer | undefined;
  #page: { readonly server: PageServer; readonly kept: KeptServer } | undefined;
  #daemon: Daemon | undefined;

  private constructor(logger: Logger, linesLost: () => number) {
    this.#logger = logger;
    this.#linesLost = linesLost;
  }

  /**
   * Opens them, which know of no disks yet. Must come before anything is served: a control socket in use tells of
   * another daemon that serves the same disks. Error: ERR_SOCKET for that one. Other trouble is told and tried again.
   */
  static async open(config: Config, logger: Logger, options: SocketsOptions = {}): Promise<Sockets> {
    const { linesLost = () => 0, configuration } = options;
    const sockets = new Sockets(logger, linesLost);
    try {
      await sockets.#openControl(config['control-socket'], { types: config.types, configuration });
      await sockets.useMetrics(config.metrics);
      await sockets.usePage(config.page);
      return sockets;
    } catch (error) {
      await sockets[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Answers for this daemon from now on. */
  answerFor(daemon: Daemon): void {
    this.#daemon = daemon;
  }

  /** Where the metrics are from now on; nowhere if undefined. */
  async useMetrics(address: string | undefined): Promise<void> {
    await this.#metrics?.[Symbol.asyncDispose]();
    this.#metrics = undefined;
    if (address === undefined) return;
    const source: MetricsSource = {
      disks: () => this.#daemon?.measuredDisks() ?? [],
      guests: () => this.#daemon?.guests() ?? [],
      daemon: () => ({
        xenstoreConnected: this.#xenstore.connected,
        xenstoreLosses: this.#xenstore.losses,
        linesLost: this.#linesLost(),
        linesSuppressed: this.#daemon?.suppressedLines ?? 0,
      }),
    };
    this.#metrics = new KeptServer('metrics', () => listenForMetrics(address, source), this.#logger);
    await this.#metrics.open();
  }

  /** Where the page is from now on; nowhere if undefined, and then nothing is kept for it. */
  async usePage(address: string | undefined): Promise<void> {
    await this.#closePage();
    if (address === undefined) return;
    const server = new PageServer(this.#pageSource());
    const kept = new KeptServer('page', () => server.listen(address), this.#logger);
    this.#page = { server, kept };
    await kept.open();
  }

  /** A line of the log that somebody else can cause, written or left out. */
  noteLine(...said: Parameters<PageServer['noteLine']>): void {
    this.#page?.server.noteLine(...said);
  }

  #pageSource(): PageSource {
    const reader = new DiskKeysReader();
    return {
      disks: () => this.#daemon?.measuredDisks() ?? [],
      disk: (name) => this.#daemon?.measuredDisk(name),
      sampled: () => this.#daemon?.sampledDisks() ?? [],
      guestOf: (device) => this.#daemon?.guestOf(device),
      started: () => this.#daemon !== undefined,
      xenstoreConnected: () => this.#xenstore.connected,
      keys: (status) => {
        const own = backendPath(this.#daemon?.backend.ownDomid ?? 0, status);
        return reader.read(this.#daemon?.store, [own, frontendPath(status, FRONTEND_TYPE)]);
      },
    };
  }

  async #closePage(): Promise<void> {
    const page = this.#page;
    this.#page = undefined;
    await page?.kept[Symbol.asyncDispose]();
    await page?.server[Symbol.asyncDispose]();
  }

  async #openControl(path: string | false, about: Pick<Controlled, 'types' | 'configuration'>): Promise<void> {
    if (path === false) return;
    const controlled: Controlled = {
      ...about,
      backend: () => this.#daemon?.backend,
      store: () => this.#daemon?.store,
      observedOf: (device) => this.#daemon?.observedOf(device) ?? {},
      imagePolicy: () => this.#daemon?.imagePolicy ?? {},
      openImage: () => this.#daemon?.openImage,
      quit: () => process.emit('SIGTERM', 'SIGTERM'),
    };
    const listen = () => openControl(path, controlled);
    try {
      this.#cleanup.use(await listen());
    } catch (error) {
      if (errorCode((error as Error).cause) === 'EADDRINUSE') throw error;
      this.#logger.debug({ reason: errorMessage(error) }, 'no control socket');
      await this.#cleanup.use(new KeptServer('control socket', listen, this.#logger)).open();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#metrics?.[Symbol.asyncDispose]();
    await this.#closePage();
    await this.#cleanup[Symbol.asyncDispose]();
  }
}

async function openControl(path: string, controlled: Controlled): Promise<ControlServer> {
  // /run is empty after a boot. A failure shows when the socket is made.
  await mkdir(dirname(path), { recursive: true, mode: 0o755 }).catch(() => undefined);
  return ControlServer.listen(path, controlled);
}
