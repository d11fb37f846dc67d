import { Fifo, futexWait, futexWake } from '@xenpv/xen-sys';
import type { Doorbell } from './doorbell.js';

/** Who sleeps, and so how it is woken. */
const NOBODY = 0;
const THREAD = 1;
const EVENT_LOOP = 2;

/**
 * A doorbell between processes. Its words lie in a mapped file. A thread that waits sleeps on the count of rings itself, an
 * event loop on a named pipe. The order of the two words is that of the doorbell between threads: a sleeper announces
 * itself before it compares the count, a ringer counts before it looks for a sleeper. A wake-up too many is harmless.
 */
export class ProcessDoorbell implements Doorbell {
  readonly #words: Int32Array;
  readonly #rings: number;
  readonly #sleeper: number;
  readonly #path: string;
  #fifo: Fifo | undefined;
  #callback: (() => void) | undefined;
  #scheduled: NodeJS.Immediate | undefined;
  #running = false;
  #again = false;
  #wantsRef = true;

  /** `path` is its pipe's, made when somebody first sleeps or rings there. */
  constructor(words: Int32Array, at: number, path: string) {
    this.#words = words;
    this.#rings = at;
    this.#sleeper = at + 1;
    this.#path = path;
  }

  ring(): void {
    Atomics.add(this.#words, this.#rings, 1);
    if (Atomics.load(this.#words, this.#sleeper) === NOBODY) return;
    const sleeper = Atomics.exchange(this.#words, this.#sleeper, NOBODY);
    if (sleeper === THREAD) futexWake(this.#words, this.#rings);
    else if (sleeper === EVENT_LOOP) this.#pipe().wake();
  }

  ringAnew(): void {
    Atomics.add(this.#words, this.#rings, 1);
    futexWake(this.#words, this.#rings);
    this.#pipe().wake();
  }

  reset(): void {
    Atomics.store(this.#words, this.#sleeper, NOBODY);
  }

  listen(callback: () => void): void {
    const first = this.#callback === undefined;
    this.#callback = callback;
    if (first) {
      const fifo = this.#pipe();
      fifo.listen(this.#call);
      fifo.keepAlive(this.#wantsRef);
    }
    this.again();
  }

  stop(): void {
    if (this.#callback === undefined) return;
    this.#callback = undefined;
    this.#fifo?.stop();
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
  }

  again(): void {
    if (this.#running) this.#again = true;
    else this.#scheduled ??= setImmediate(this.#call);
  }

  wait(ready: () => boolean, timeoutMs: number): boolean {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const seen = Atomics.load(this.#words, this.#rings);
      if (ready()) return true;
      const left = deadline - performance.now();
      if (left <= 0) return false;
      Atomics.store(this.#words, this.#sleeper, THREAD);
      futexWait(this.#words, this.#rings, seen, left);
    }
  }

  ref(): void {
    this.#wantsRef = true;
    if (this.#callback !== undefined) this.#fifo?.keepAlive(true);
  }

  unref(): void {
    this.#wantsRef = false;
    if (this.#callback !== undefined) this.#fifo?.keepAlive(false);
  }

  close(): void {
    this.stop();
    this.reset();
    this.#fifo?.close();
    this.#fifo = undefined;
  }

  readonly #call = (): void => {
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
    if (this.#callback === undefined || this.#running) return;
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

  #sleep(seen: number): void {
    if (!this.#again) {
      Atomics.store(this.#words, this.#sleeper, EVENT_LOOP);
      if (Atomics.load(this.#words, this.#rings) === seen) return;
      Atomics.store(this.#words, this.#sleeper, NOBODY);
    }
    this.#scheduled ??= setImmediate(this.#call);
  }

  #pipe(): Fifo {
    this.#fifo ??= new Fifo(this.#path);
    return this.#fifo;
  }
}
