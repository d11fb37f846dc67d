import { Doorbell, Sleeper } from './doorbell.js';

/** The longest interval that a timer takes; it only keeps the event loop alive. */
const FOREVER_MS = 2 ** 31 - 1;

/** A doorbell between threads of one process, whose words are in a SharedArrayBuffer. */
export class ThreadDoorbell extends Doorbell {
  #asleep = false;
  #wake = () => {};
  #keepAlive: NodeJS.Timeout | undefined;

  ring(): void {
    Atomics.add(this.words, this.rings, 1);
    if (Atomics.load(this.words, this.sleeper) === Sleeper.nobody) return;
    this.reset();
    Atomics.notify(this.words, this.rings);
  }

  ringAnew(): void {
    Atomics.add(this.words, this.rings, 1);
    Atomics.notify(this.words, this.rings);
  }

  protected begin(wake: () => void): void {
    this.#wake = wake;
  }

  protected end(): void {
    this.rouse();
  }

  protected sleepUnlessRung(seen: number): boolean {
    const result = Atomics.waitAsync(this.words, this.rings, seen);
    if (!result.async) return false;
    this.#asleep = true;
    void result.value.then(this.#woken);
    return true;
  }

  protected rouse(): boolean {
    if (this.#asleep) Atomics.notify(this.words, this.rings);
    return this.#asleep;
  }

  protected block(seen: number, milliseconds: number): void {
    Atomics.wait(this.words, this.rings, seen, milliseconds);
  }

  /** A pending Atomics.waitAsync does not keep the event loop alive; a timer does. */
  protected keepAlive(keep: boolean): void {
    if (keep) {
      this.#keepAlive ??= setInterval(() => {}, FOREVER_MS);
    } else if (this.#keepAlive !== undefined) {
      clearInterval(this.#keepAlive);
      this.#keepAlive = undefined;
    }
  }

  /** Nothing was opened. */
  protected release(): void {}

  readonly #woken = (): void => {
    this.#asleep = false;
    this.#wake();
  };
}
