import type { UnflushedLog, UnflushedWrite } from './log.js';

/** Writes in flight at once. */
const AT_ONCE = 64;

export interface ResendingOptions {
  readonly log: UnflushedLog;
  /** Sends writes to the server; `ended` is to be called for each, with 0 or a negative errno. */
  send(writes: readonly UnflushedWrite[]): void;
  /** All have ended; of `resent` the server has refused `failed`. */
  done(counts: { readonly resent: number; readonly failed: number }): void;
}

/**
 * Sends the writes of a log again, many at once, but none before those have ended that it overlaps: a server has no
 * order of its own. What a server refuses is lost.
 */
export class Resending {
  readonly #options: ResendingOptions;
  readonly #writes: Iterator<UnflushedWrite>;
  readonly #inFlight = new Set<UnflushedWrite>();
  #next: UnflushedWrite | undefined;
  #resent = 0;
  #failed = 0;

  constructor(options: ResendingOptions) {
    this.#options = options;
    this.#writes = options.log.writes();
    this.#next = this.#writes.next().value;
  }

  start(): void {
    this.#go();
  }

  ended(write: UnflushedWrite, result: number): void {
    this.#inFlight.delete(write);
    if (result < 0) this.#failed++;
    this.#go();
  }

  #go(): void {
    const batch: UnflushedWrite[] = [];
    for (let next = this.#next; next && this.#inFlight.size < AT_ONCE && !this.#waits(next); next = this.#next) {
      this.#inFlight.add(next);
      batch.push(next);
      this.#resent++;
      this.#next = this.#writes.next().value;
    }
    if (batch.length > 0) this.#options.send(batch);
    else if (!this.#next && this.#inFlight.size === 0) {
      this.#options.done({ resent: this.#resent, failed: this.#failed });
    }
  }

  #waits({ offset, length }: UnflushedWrite): boolean {
    for (const other of this.#inFlight) {
      if (offset < other.offset + other.length && other.offset < offset + length) return true;
    }
    return false;
  }
}
