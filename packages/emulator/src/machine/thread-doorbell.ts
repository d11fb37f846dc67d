import type { Doorbell } from './doorbell.js';

/** The longest interval that a timer takes; it only keeps the event loop alive. */
const FOREVER_MS = 2 ** 31 - 1;

/**
 * A doorbell between threads of one process.
 *
 * Two words: a count of rings, and whether the listener sleeps. The listener announces its sleep before it compares
 * the count, the ringer counts before it looks for a sleeper, so that one of the two always sees the other.
 */
export class ThreadDoorbell implements Doorbell {
  readonly #words: Int32Array;
  readonly #rings: number;
  readonly #sleeping: number;
  #callback: (() => void) | undefined;
  #scheduled: NodeJS.Immediate | undefined;
  #asleep = false;
  #running = false;
  #again = false;
  #wantsRef = true;
  #keepAlive: NodeJS.Timeout | undefined;

  constructor(words: Int32Array, at: number) {
    this.#words = words;
    this.#rings = at;
    this.#sleeping = at + 1;
  }

  ring(): void {
    Atomics.add(this.#words, this.#rings, 1);
    if (Atomics.load(this.#words, this.#sleeping) === 0) return;
    Atomics.store(this.#words, this.#sleeping, 0);
    Atomics.notify(this.#words, this.#rings);
  }

  ringAnew(): void {
    Atomics.add(this.#words, this.#rings, 1);
    Atomics.notify(this.#words, this.#rings);
  }

  reset(): void {
    Atomics.store(this.#words, this.#sleeping, 0);
  }

  listen(callback: () => void): void {
    this.#callback = callback;
    this.#updateKeepAlive();
    this.again();
  }

  stop(): void {
    this.#callback = undefined;
    this.#updateKeepAlive();
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
    if (this.#asleep) Atomics.notify(this.#words, this.#rings);
  }

  again(): void {
    if (this.#running) this.#again = true;
    else if (this.#asleep) Atomics.notify(this.#words, this.#rings);
    else this.#scheduled ??= setImmediate(this.#call);
  }

  wait(ready: () => boolean, timeoutMs: number): boolean {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const seen = Atomics.load(this.#words, this.#rings);
      if (ready()) return true;
      const left = deadline - performance.now();
      if (left <= 0) return false;
      Atomics.store(this.#words, this.#sleeping, 1);
      Atomics.wait(this.#words, this.#rings, seen, left);
    }
  }

  close(): void {
    this.stop();
    this.reset();
  }

  ref(): void {
    this.#wantsRef = true;
    this.#updateKeepAlive();
  }

  unref(): void {
    this.#wantsRef = false;
    this.#updateKeepAlive();
  }

  readonly #call = (): void => {
    this.#scheduled = undefined;
    if (this.#callback === undefined) return;
    const seen = Atomics.load(this.#words, this.#rings);
    this.#again = false;
    this.#running = true;
    try {
      this.#callback();
    } finally {
      this.#running = false;
      if (this.#callback !== undefined) this.#sleep(seen);
    }
  };

  /** A ring since `seen` goes through setImmediate, so that a busy ringer does not starve this thread's I/O. */
  #sleep(seen: number): void {
    if (!this.#again) {
      Atomics.store(this.#words, this.#sleeping, 1);
      const result = Atomics.waitAsync(this.#words, this.#rings, seen);
      if (result.async) {
        this.#asleep = true;
        void result.value.then(this.#wake);
        return;
      }
      Atomics.store(this.#words, this.#sleeping, 0);
    }
    this.#scheduled ??= setImmediate(this.#call);
  }

  readonly #wake = (): void => {
    this.#asleep = false;
    this.#call();
  };

  /** A pending Atomics.waitAsync does not keep the event loop alive; a timer does. */
  #updateKeepAlive(): void {
    if (this.#callback !== undefined && this.#wantsRef) {
      this.#keepAlive ??= setInterval(() => {}, FOREVER_MS);
    } else if (this.#keepAlive !== undefined) {
      clearInterval(this.#keepAlive);
      this.#keepAlive = undefined;
    }
  }
}
