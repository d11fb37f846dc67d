import { Fifo, futexWait, futexWake } from '@xenpv/xen-sys';
import { Doorbell, Sleeper } from './doorbell.js';

/** A worker thread that is terminated ends when its JavaScript runs: so long it may sleep in a system call. */
const SLEEP_MS = 200;

/**
 * A doorbell between processes, whose words are in a mapped file. A thread that waits sleeps on the count of rings itself,
 * an event loop on a named pipe.
 */
export class ProcessDoorbell extends Doorbell {
  readonly #path: string;
  #fifo: Fifo | undefined;

  /** `path` is its pipe's, made when somebody first sleeps or rings there. */
  constructor(words: Int32Array, at: number, path: string) {
    super(words, at);
    this.#path = path;
  }

  ring(): void {
    Atomics.add(this.words, this.rings, 1);
    if (Atomics.load(this.words, this.sleeper) === Sleeper.nobody) return;
    const sleeper = Atomics.exchange(this.words, this.sleeper, Sleeper.nobody);
    if (sleeper === Sleeper.thread) futexWake(this.words, this.rings);
    else if (sleeper === Sleeper.eventLoop) this.#pipe().wake();
  }

  ringAnew(): void {
    Atomics.add(this.words, this.rings, 1);
    futexWake(this.words, this.rings);
    this.#pipe().wake();
  }

  protected override release(): void {
    this.#fifo?.close();
    this.#fifo = undefined;
  }

  protected begin(wake: () => void): void {
    this.#pipe().listen(wake);
  }

  protected end(): void {
    this.#fifo?.stop();
  }

  protected sleepUnlessRung(seen: number): boolean {
    return Atomics.load(this.words, this.rings) === seen;
  }

  /** The pipe wakes it, but so does a call that is scheduled: nothing has to be ended. */
  protected rouse(): boolean {
    return false;
  }

  /** Shorter than it is asked to: whoever waits looks again. */
  protected block(seen: number, milliseconds: number): void {
    futexWait(this.words, this.rings, seen, Math.min(milliseconds, SLEEP_MS));
  }

  protected keepAlive(keep: boolean): void {
    this.#fifo?.keepAlive(keep);
  }

  #pipe(): Fifo {
    this.#fifo ??= new Fifo(this.#path);
    return this.#fifo;
  }
}
