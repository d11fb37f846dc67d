import { QmpServer } from '@xenpv/qmp';
import { isJobEvent } from '../images/storage-daemon/monitor/jobs.js';
import { listenPrivately } from '../unix-socket.js';
import { BlockNodes } from './block-nodes.js';
import { blockCommands } from './commands/blocks.js';
import { deviceCommands } from './commands/devices.js';
import { diskCommands } from './commands/disks.js';
import { exportCommands } from './commands/exports.js';
import { backupCommands } from './commands/jobs/backup.js';
import { bitmapCommands } from './commands/jobs/bitmaps.js';
import { commitCommands } from './commands/jobs/commit.js';
import { jobCommands } from './commands/jobs/jobs.js';
import { mirrorCommands } from './commands/jobs/mirror.js';
import { transactionCommands } from './commands/jobs/transaction.js';
import { layerCommands } from './commands/layers.js';
import { mediumCommands } from './commands/media.js';
import { processCommands } from './commands/process.js';
import { throttleCommands } from './commands/throttle.js';
import { traceCommands } from './commands/trace.js';
import { type Controlled, nodeNameOf } from './controlled.js';
import { DeviceIds } from './device-ids.js';
import { EVENTS, subscribeEvents } from './events.js';
import { DiskExports } from './exports/disk-exports.js';
import { KnownJobs } from './known-jobs.js';
import { qmpVersion } from './qemu-version.js';

/**
 * The running daemon by QEMU's machine protocol, on a Unix socket that only its owner may use: QEMU's commands for disks
 * where it has them, our own with `x-` in front where not.
 */
export class ControlServer implements AsyncDisposable {
  readonly #server: QmpServer;
  readonly #exports = new DiskExports((id) => this.#server.announce('BLOCK_EXPORT_DELETED', { id }));
  readonly #unsubscribe: () => void;

  private constructor(controlled: Controlled) {
    const context = { ...controlled, ids: new DeviceIds(), nodes: new BlockNodes(), jobs: new KnownJobs() };
    const unplugFailed = (id: string) =>
      this.#server.announce('DEVICE_UNPLUG_GUEST_ERROR', { device: id, path: context.ids.deviceOf(id) });
    const commands = {
      ...processCommands(controlled),
      ...blockCommands(context),
      ...mediumCommands(context),
      ...layerCommands(context),
      ...jobCommands(context),
      ...commitCommands(context),
      ...mirrorCommands(context),
      ...bitmapCommands(context),
      ...backupCommands(context),
      ...transactionCommands(context),
      ...exportCommands(context, this.#exports),
      ...throttleCommands(context),
      ...deviceCommands(context, unplugFailed),
      ...diskCommands(context),
      ...traceCommands(context),
    };
    this.#server = new QmpServer({ commands, events: EVENTS, version: qmpVersion() });
    this.#unsubscribe = subscribeEvents((event, data) => {
      const { device } = data;
      if (isJobEvent({ event })) {
        if (context.jobs.hear(event, data)) this.#server.announce(event, data);
        return;
      }
      const id = context.ids.idOf(device);
      const node = 'node-name' in data ? { 'node-name': nodeNameOf(context, device) } : {};
      this.#server.announce(event, { ...data, ...node, device: id });
      if (event !== 'DEVICE_DELETED') return;
      context.ids.remove(device);
      context.nodes.release(id);
    });
  }

  /** Error: ERR_SOCKET. */
  static async listen(path: string, controlled: Controlled): Promise<ControlServer> {
    const control = new ControlServer(controlled);
    try {
      await listenPrivately(control.#server.listener, path);
    } catch (error) {
      control.#unsubscribe();
      throw error;
    }
    return control;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unsubscribe();
    // Its clients are told of each export's end.
    await this.#exports[Symbol.asyncDispose]();
    await this.#server.close();
  }
}
