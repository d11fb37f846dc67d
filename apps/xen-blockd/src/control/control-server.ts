import { QmpServer } from '@xenpv/qmp';
import { listenOnUnixSocket } from '../unix-socket.js';
import { blockCommands } from './commands/blocks.js';
import { diskCommands } from './commands/disks.js';
import { mediumCommands } from './commands/media.js';
import { processCommands } from './commands/process.js';
import { throttleCommands } from './commands/throttle.js';
import type { Controlled } from './controlled.js';
import { EVENTS, subscribeEvents } from './events.js';

/** The release of QEMU whose commands these are: what a client of QEMU's decides by. */
const QEMU = { major: 7, minor: 2, micro: 0 };

/**
 * The running daemon by QEMU's machine protocol, on a Unix socket that only its owner may use: QEMU's commands for disks
 * where it has them, our own with `x-` in front where not.
 */
export class ControlServer implements AsyncDisposable {
  readonly #server: QmpServer;
  readonly #unsubscribe: () => void;

  private constructor(controlled: Controlled) {
    const commands = {
      ...processCommands(controlled),
      ...blockCommands(controlled),
      ...mediumCommands(controlled),
      ...throttleCommands(controlled),
      ...diskCommands(controlled),
    };
    const version = { qemu: QEMU, package: `xen-blockd ${controlled.version}` };
    this.#server = new QmpServer({ commands, events: EVENTS, version });
    this.#unsubscribe = subscribeEvents((event, data) => this.#server.announce(event, data));
  }

  /** Error: ERR_SOCKET. */
  static async listen(path: string, controlled: Controlled): Promise<ControlServer> {
    const control = new ControlServer(controlled);
    const umask = process.umask(0o077);
    try {
      await listenOnUnixSocket(control.#server.listener, path);
    } catch (error) {
      control.#unsubscribe();
      throw error;
    } finally {
      process.umask(umask);
    }
    return control;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unsubscribe();
    await this.#server.close();
  }
}
