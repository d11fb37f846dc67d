import { ThrottledDevices } from '@xenpv/test-support/throttled-devices';

let made = 0;

/**
 * A block device whose requests are held back for as long as a test wants, for the processes that are put behind it: its
 * throttle is at next to nothing. Requests of others pass. Needs root and a control group of block I/O.
 */
export class HeldDevice implements Disposable {
  /** The device's path. */
  readonly path: string;
  readonly #devices = new ThrottledDevices(`held-device-${process.pid}-${made++}`);
  #holds = false;

  /** `backing` is the file that has the device's bytes. */
  constructor(backing: string) {
    this.path = this.#devices.create(backing);
    try {
      this.hold();
    } catch (error) {
      this.#devices[Symbol.dispose]();
      throw error;
    }
  }

  /** What the process does on the device from now on is held back while the device holds. */
  add(pid: number | undefined): void {
    this.#devices.add(pid);
  }

  hold(): void {
    this.#devices.limit(this.path, 'bps', 1);
    this.#holds = true;
  }

  /** Lets everything pass. */
  release(): void {
    if (this.#holds) this.#devices.limit(this.path, 'bps', 'none');
    this.#holds = false;
  }

  /** Nobody may have the device open, and no process may be behind it. */
  [Symbol.dispose](): void {
    this.release();
    this.#devices[Symbol.dispose]();
  }
}
