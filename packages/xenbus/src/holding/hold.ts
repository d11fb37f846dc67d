import { heldChannel, holdEndedChannel } from '../diagnostics.js';
import { errorMessage, printable } from '../errors.js';
import type { DeviceAddress } from '../paths.js';
import { Backoff } from '../waiting/backoff.js';
import type { HeldDevice } from './held-device.js';

/** A device that was served for so long, in milliseconds, is served well: what fails then is a first failure. */
const SERVED_WELL_MS = 10_000;

/** Whether a device is held, why, and when it is tried again: after pauses that grow. */
export class Hold implements Disposable {
  readonly #address: DeviceAddress;
  readonly #due: () => void;
  readonly #backoff = new Backoff();
  #held: HeldDevice | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isDue = false;
  #servedAt = Number.NEGATIVE_INFINITY;

  /** `due` is called when it is time to try again. */
  constructor(address: DeviceAddress, due: () => void) {
    this.#address = address;
    this.#due = due;
  }

  get state(): HeldDevice | undefined {
    return this.#held;
  }

  /** It cannot be served, perhaps again. Whether the reason is another one than before. */
  failed(error: unknown): boolean {
    if (this.#held === undefined && performance.now() - this.#servedAt > SERVED_WELL_MS) this.#backoff.worked();
    const reason = printable(errorMessage(error));
    const isNew = reason !== this.#held?.reason;
    const { since = new Date(), attempts = 0 } = this.#held ?? {};
    this.#held = { reason, since, attempts: attempts + 1 };
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.retry(), this.#backoff.failed());
    if (isNew) heldChannel.publish({ address: this.#address, error, ...this.#held });
    return isNew;
  }

  /** It is tried again now. Does nothing if it is not held. */
  retry(): void {
    if (this.#held === undefined) return;
    clearTimeout(this.#timer);
    this.#isDue = true;
    this.#due();
  }

  /** Whether it is time to try again; true once for each time. */
  takeDue(): boolean {
    const isDue = this.#isDue;
    this.#isDue = false;
    return isDue;
  }

  /** Does nothing if it is not held, but for what is then known of its service. */
  over(by: 'served' | 'ended' | 'left'): void {
    if (by === 'served') this.#servedAt = performance.now();
    const held = this.#held;
    if (held === undefined) return;
    this[Symbol.dispose]();
    this.#held = undefined;
    const { since, attempts } = held;
    holdEndedChannel.publish({ address: this.#address, by, heldMs: Date.now() - since.getTime(), attempts });
  }

  /** Nothing is tried again by itself. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#isDue = false;
  }
}
