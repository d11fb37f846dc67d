import { XenSysError } from '@xenpv/xen-sys';
import { Sleeper } from '../machine/doorbell.js';
import { ThreadDoorbell } from '../machine/thread-doorbell.js';

/** A doorbell on one event loop, whose wake-ups come when `post` lets them. */
export class SeededDoorbell extends ThreadDoorbell {
  readonly #post: (wake: () => void) => void;
  #wake = () => {};

  constructor(words: Int32Array, at: number, post: (wake: () => void) => void) {
    super(words, at);
    this.#post = post;
  }

  override ring(): void {
    Atomics.add(this.words, this.rings, 1);
    if (Atomics.load(this.words, this.sleeper) === Sleeper.nobody) return;
    this.reset();
    this.rouse();
  }

  override ringAnew(): void {
    this.ring();
  }

  protected override begin(wake: () => void): void {
    this.#wake = wake;
  }

  /** A wake-up that is still to come finds nobody who listens. */
  protected override end(): void {}

  protected override sleepUnlessRung(seen: number): boolean {
    return Atomics.load(this.words, this.rings) === seen;
  }

  protected override rouse(): boolean {
    this.#post(() => this.#wake());
    return true;
  }

  /** Nothing could end it: all that happens on such a host does so on the event loop. */
  override wait(ready: () => boolean): boolean {
    if (ready()) return true;
    const message = 'a host with a seed delivers events on the event loop only; use listen';
    throw new XenSysError('EOPNOTSUPP', 'evtchn.wait', message);
  }
}
