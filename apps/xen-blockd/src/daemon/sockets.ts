import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type BlockDevice, parseRateLimits, RATE_LIMITS_FORM } from '@xenpv/xen-block';
import { errorMessage } from '@xenpv/xenbus';
import type { Logger } from 'pino';
import { Cleanup } from '../cleanup.js';
import { errorCode } from '../errors.js';
import {
  type ControlHandler,
  type ControlRequest,
  type ControlResponse,
  ControlServer,
} from '../status/control-socket.js';
import { type DeviceStatus, deviceStatus } from '../status/device-status.js';
import { findDisk } from '../status/find-disk.js';
import { MetricsServer, type MetricsSource } from '../status/metrics.js';
import type { Config } from './config.js';
import type { Daemon } from './daemon.js';
import { KeptServer } from './kept-server.js';

type ThrottleRequest = Extract<ControlRequest, { command: 'throttle' }>;
type ResumeRequest = Extract<ControlRequest, { command: 'resume' }>;

/** The sockets on which the process is asked about its disks: the control socket and the metrics. */
export class Sockets implements AsyncDisposable {
  readonly #logger: Logger;
  readonly #linesLost: () => number;
  readonly #cleanup = new Cleanup();
  #metrics: KeptServer | undefined;
  #daemon: Daemon | undefined;

  private constructor(logger: Logger, linesLost: () => number) {
    this.#logger = logger;
    this.#linesLost = linesLost;
  }

  /**
   * Opens both, which know of no disks yet. Must come before anything is served: a control socket in use tells of
   * another daemon that serves the same disks. Error: ERR_SOCKET for that one. Other trouble is told and tried again.
   */
  static async open(config: Config, logger: Logger, linesLost: () => number = () => 0): Promise<Sockets> {
    const sockets = new Sockets(logger, linesLost);
    try {
      await sockets.#openControl(config['control-socket']);
      await sockets.useMetrics(config.metrics);
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
      devices: () => this.#devices(),
      guests: () => this.#daemon?.backend.guests ?? [],
      logLines: () => ({ lost: this.#linesLost(), suppressed: this.#daemon?.suppressedLines ?? 0 }),
    };
    this.#metrics = new KeptServer('metrics', () => MetricsServer.listen(address, source), this.#logger);
    await this.#metrics.open();
  }

  async #openControl(path: string | false): Promise<void> {
    if (path === false) return;
    const listen = () => openControl(path, (request) => this.#answer(request));
    try {
      this.#cleanup.use(await listen());
    } catch (error) {
      if (errorCode((error as Error).cause) === 'EADDRINUSE') throw error;
      this.#logger.debug({ reason: errorMessage(error) }, 'no control socket');
      await this.#cleanup.use(new KeptServer('control socket', listen, this.#logger)).open();
    }
  }

  async #answer(request: ControlRequest): Promise<ControlResponse> {
    switch (request.command) {
      case 'list':
        return { devices: this.#devices() };
      case 'refresh':
        await this.#refresh(request);
        return { devices: this.#devices() };
      case 'resume':
        return this.#resume(request);
      case 'throttle':
        return this.#throttle(request);
      default:
        return { error: `unknown command ${JSON.stringify((request as { command?: unknown }).command)}` };
    }
  }

  async #resume({ disk, withoutJournal, acceptImage }: ResumeRequest): Promise<ControlResponse> {
    if (typeof disk !== 'string') return { error: 'resume needs a disk' };
    const { devices = [], ownDomid = 0 } = this.#daemon?.backend ?? {};
    const device = findDisk(devices, disk, ownDomid);
    const wasStopped = await device.resume({
      withoutJournal: withoutJournal === true,
      acceptImage: acceptImage === true,
    });
    return { devices: [{ ...deviceStatus(device), wasStopped }] };
  }

  async #throttle({ disk, limits, guest }: ThrottleRequest): Promise<ControlResponse> {
    if (typeof disk !== 'string') return { error: 'throttle needs a disk' };
    const devices = [...(this.#daemon?.backend.devices ?? [])];
    const device = findDisk(devices, disk, this.#daemon?.backend.ownDomid ?? 0);
    const changed = guest === true ? disksOfGuest(devices, device) : [device];
    if (limits !== undefined) {
      const parsed = limits === 'default' ? undefined : parseRateLimits(limits);
      if (limits !== 'default' && !parsed)
        return { error: `limits ${limits}: expected ${RATE_LIMITS_FORM}, or "default"` };
      for (const each of changed) await each.setLimits(guest === true ? 'guest' : 'disk', parsed);
    }
    return { devices: changed.map(deviceStatus) };
  }

  async #refresh({ disk, allowShrink }: Extract<ControlRequest, { command: 'refresh' }>): Promise<void> {
    const backend = this.#daemon?.backend;
    if (disk === undefined) return backend?.refresh();
    await findDisk(backend?.devices ?? [], disk, backend?.ownDomid ?? 0).refresh({ mayShrink: allowShrink });
  }

  #devices(): DeviceStatus[] {
    return [...(this.#daemon?.backend.devices ?? [])].map(deviceStatus);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#metrics?.[Symbol.asyncDispose]();
    await this.#cleanup[Symbol.asyncDispose]();
  }
}

function disksOfGuest(devices: readonly BlockDevice[], { address }: BlockDevice): BlockDevice[] {
  return devices.filter((device) => device.address.domid === address.domid);
}

async function openControl(path: string, handler: ControlHandler): Promise<ControlServer> {
  // /run is empty after a boot. A failure shows when the socket is made.
  await mkdir(dirname(path), { recursive: true, mode: 0o755 }).catch(() => undefined);
  return ControlServer.listen(path, handler);
}
