import { constants } from 'node:fs';
import { type Descriptor, loadAddon } from '../addon/addon.js';
import { Errno } from '../errno.js';
import { errnoError } from '../errors.js';

/** As many wake-ups as one read takes. */
const READ_BYTES = 64;

const ONE = new Uint8Array(1);

/**
 * A named pipe that carries nothing but wake-ups, from any process to one event loop. Both ends have it open for
 * reading and writing, so that neither end's close is seen by the other.
 */
export class Fifo {
  /** Where the pipe is in the file system. It stays there when it is closed. */
  readonly path: string;
  readonly #file: Descriptor;
  readonly #into = new Uint8Array(READ_BYTES);

  /** Makes the pipe if need be, mode 0600. Errors: ERR_NO_ADDON, or an errno. */
  constructor(path: string) {
    this.path = path;
    const { Descriptor, makeFifo } = loadAddon();
    const made = makeFifo(path);
    if (made < 0 && made !== Errno.EEXIST) throw errnoError(made, 'fifo.open', path);
    this.#file = new Descriptor(path, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOFOLLOW);
    if (this.#file.fd < 0) throw errnoError(this.#file.fd, 'fifo.open', path);
  }

  /** Wakes the listener. A full pipe wakes it anyway. */
  wake(): void {
    this.#file.write(ONE, 1);
  }

  /** Calls `woken` after wakes, several of which may share a call. */
  listen(woken: () => void): void {
    this.#file.listen(this.#into, woken);
  }

  /** Ends {@link listen}. */
  stop(): void {
    this.#file.listen();
  }

  /** Whether listening keeps the process alive; it does at first. */
  keepAlive(keep: boolean): void {
    this.#file.keepAlive(keep);
  }

  /** Harmless when repeated. */
  close(): void {
    this.#file.close();
  }
}
