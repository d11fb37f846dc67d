/** Words of shared memory that one doorbell takes: a count of rings, and who sleeps. */
export const DOORBELL_WORDS = 2;

/** A wake-up between threads: any thread rings, one thread listens or waits. Ringing costs a system call only when somebody sleeps. */
export interface Doorbell {
  /** Wakes whoever listens or waits, on whatever thread. */
  ring(): void;
  /** Wakes whoever listens or waits, even if a ringer died after it had taken the ring upon itself. */
  ringAnew(): void;
  /** Forgets a sleeper of an earlier life. */
  reset(): void;
  /** Calls `callback` on this thread's event loop at once and after each ring (several rings may share a call). */
  listen(callback: () => void): void;
  /** Ends {@link listen}. */
  stop(): void;
  /** Has the listener called once more, soon. For the listening thread only. */
  again(): void;
  /** Blocks this thread until `ready()` or for `timeoutMs`; returns the last `ready()`. */
  wait(ready: () => boolean, timeoutMs: number): boolean;
  /** Stops, and lets go of what sleeping and ringing here took. */
  close(): void;
  /** Whether listening keeps the process alive; it does at first. */
  ref(): void;
  unref(): void;
}
