/** Words of shared memory that one doorbell takes: a count of rings, and who sleeps. */
export const DOORBELL_WORDS = 2;

/** Who sleeps, which says how it is woken. */
export const Sleeper = { nobody: 0, thread: 1, eventLoop: 2 } as const;

/**
 * A wake-up: any thread rings, one thread listens or waits. Ringing costs a system call only when somebody sleeps.
 *
 * A sleeper announces itself before it compares the count of rings, a ringer counts before it looks for a sleeper, so that
 * one of the two always sees the other. A wake-up too many is harmless.
 */
export abstract class Doorbell {
  protected readonly words: Int32Array;
  /** Where in `words` the count of rings is, and where the sleeper. */
  protected readonly rings: number;
  protected readonly sleeper: number;
  #callback: (() => void) | undefined;
  #scheduled: NodeJS.Immediate | undefined;
  #running = false;
  #again = false;
  #wantsRef = true;

  constructor(words: Int32Array, at: number) {
    this.words = words;
    this.rings = at;
    this.sleeper = at + 1;
  }

  /** Wakes whoever listens or waits, on whatever thread. */
  abstract ring(): void;
  /** Wakes whoever listens or waits, even if a ringer died after it had taken the ring upon itself. */
  abstract ringAnew(): void;
  /** The event loop begins to listen: what wakes it calls `wake`. */
  protected abstract begin(wake: () => void): void;
  protected abstract end(): void;
  /** The event loop sleeps if there was no ring since `seen`; says whether it does. */
  protected abstract sleepUnlessRung(seen: number): boolean;
  /** Wakes this event loop, if it sleeps in a way that nothing else ends; says whether it did. */
  protected abstract rouse(): boolean;
  /** Blocks this thread until a ring after `seen`, or for that long at most. */
  protected abstract block(seen: number, milliseconds: number): void;
  protected abstract keepAlive(keep: boolean): void;
  /** Gives up what was opened to ring or to listen. */
  protected abstract release(): void;

  /** Forgets a sleeper of an earlier life. */
  reset(): void {
    Atomics.store(this.words, this.sleeper, Sleeper.nobody);
  }

  /** Calls `callback` on this thread's event loop at once and after each ring (several rings may share a call). */
  listen(callback: () => void): void {
    const listened = this.#callback !== undefined;
    this.#callback = callback;
    if (!listened) this.begin(this.#call);
    this.#updateKeepAlive();
    this.again();
  }

  /** Ends {@link listen}. */
  stop(): void {
    if (this.#callback === undefined) return;
    this.#callback = undefined;
    this.#updateKeepAlive();
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
    this.end();
  }

  /** Has the listener called once more, soon. For the listening thread only. */
  again(): void {
    if (this.#running) this.#again = true;
    else if (!this.rouse()) this.#scheduled ??= setImmediate(this.#call);
  }

  /** Blocks this thread until `ready()` or for `timeoutMs`; returns the last `ready()`. */
  wait(ready: () => boolean, timeoutMs: number): boolean {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const seen = Atomics.load(this.words, this.rings);
      if (ready()) return true;
      const left = deadline - performance.now();
      if (left <= 0) return false;
      Atomics.store(this.words, this.sleeper, Sleeper.thread);
      this.block(seen, left);
    }
  }

  /** Lets go of what ringing took, unless this thread listens here. */
  letGo(): void {
    if (this.#callback === undefined) this.release();
  }

  /** Stops, and lets go of what sleeping and ringing here took. */
  close(): void {
    this.stop();
    this.reset();
    this.release();
  }

  /** Whether listening keeps the process alive; it does at first. */
  ref(): void {
    this.#wantsRef = true;
    this.#updateKeepAlive();
  }

  unref(): void {
    this.#wantsRef = false;
    this.#updateKeepAlive();
  }

  readonly #call = (): void => {
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
    if (this.#callback === undefined || this.#running) return;
    const seen = Atomics.load(this.words, this.rings);
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
      Atomics.store(this.words, this.sleeper, Sleeper.eventLoop);
      if (this.sleepUnlessRung(seen)) return;
      this.reset();
    }
    this.#scheduled ??= setImmediate(this.#call);
  }

  #updateKeepAlive(): void {
    this.keepAlive(this.#callback !== undefined && this.#wantsRef);
  }
}
