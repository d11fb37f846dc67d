import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { deviceName } from '@xenpv/xenbus';
import { Cleanup } from '../cleanup.js';
import { BlockdError } from '../errors.js';
import {
  type ControlHandler,
  type ControlRequest,
  type ControlResponse,
  ControlServer,
} from '../status/control-socket.js';
import { type DeviceStatus, deviceStatus } from '../status/device-status.js';
import { MetricsServer } from '../status/metrics.js';
import type { Config } from './config.js';
import type { Daemon } from './daemon.js';

/** The sockets on which the process is asked about its disks: the control socket and the metrics. */
export class Sockets implements AsyncDisposable {
  #control: ControlServer | undefined;
  #daemon: Daemon | undefined;

  /**
   * Opens the control socket, which knows of no disks yet. Must come before anything is served: a control socket in
   * use tells of another daemon that serves the same disks. Error: ERR_SOCKET.
   */
  static async open(config: Config): Promise<Sockets> {
    const sockets = new Sockets();
    const path = config['control-socket'];
    if (path) sockets.#control = await openControl(path, (request) => sockets.#answer(request));
    return sockets;
  }

  /** Answers for this daemon from now on, and opens the metrics, which the result closes. Error: ERR_SOCKET. */
  async answerFor(daemon: Daemon, config: Config): Promise<AsyncDisposable> {
    this.#daemon = daemon;
    if (config.metrics === undefined) return new Cleanup();
    return MetricsServer.listen(config.metrics, () => this.#devices());
  }

  async #answer(request: ControlRequest): Promise<ControlResponse> {
    const { command } = request;
    if (command === 'refresh') await this.#refresh(request);
    else if (command !== 'list') return { error: `unknown command ${JSON.stringify(command)}` };
    return { devices: this.#devices() };
  }

  async #refresh({ device, allowShrink }: Extract<ControlRequest, { command: 'refresh' }>): Promise<void> {
    if (device === undefined) return this.#daemon?.backend.refresh();
    const all = [...(this.#daemon?.backend.devices ?? [])];
    const found = all.find(({ address }) => deviceName(address) === device);
    if (found) return found.refresh({ mayShrink: allowShrink });
    const names = all.map(({ address }) => deviceName(address)).join(', ');
    throw new BlockdError('ERR_USAGE', 'refresh', `there is no disk ${device}; there are: ${names || 'none'}`);
  }

  #devices(): DeviceStatus[] {
    return [...(this.#daemon?.backend.devices ?? [])].map(deviceStatus);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#control?.[Symbol.asyncDispose]();
  }
}

async function openControl(path: string, handler: ControlHandler): Promise<ControlServer> {
  // /run is empty after a boot. A failure shows when the socket is made.
  await mkdir(dirname(path), { recursive: true, mode: 0o755 }).catch(() => undefined);
  return ControlServer.listen(path, handler);
}
