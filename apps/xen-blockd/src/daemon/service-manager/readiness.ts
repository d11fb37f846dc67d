import type { Logger } from 'pino';
import type { Daemon } from '../daemon.js';
import { tellServiceManager } from './notify.js';

/** For how long an image that hangs keeps the service manager from being told. The unit's own limit is longer. */
const READY_TIMEOUT_MS = 60_000;

/** Tells the service manager that this process is ready: once every disk that was found is served, held or refused. */
export class Readiness implements Disposable {
  readonly #limit = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #isOver = false;

  constructor({ backend }: Daemon, logger: Logger) {
    this.#timer = setTimeout(() => this.#limit.abort(), READY_TIMEOUT_MS);
    void backend.settled({ signal: this.#limit.signal }).then(() => {
      clearTimeout(this.#timer);
      if (this.#isOver) return;
      const devices = [...backend.devices];
      const held = devices.filter((device) => device.held !== undefined).length;
      if (this.#limit.signal.aborted) logger.warn({ disks: devices.length }, 'ready, though an image hangs');
      else logger.info({ disks: devices.length, held }, 'every disk that was found is served or held');
      tellServiceManager('READY=1', logger);
    });
  }

  /** It is not told any more. */
  [Symbol.dispose](): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#limit.abort();
  }
}
