import type { UnflushedLog, UnflushedWrite } from './log.js';

/** Writes in flight at once. */
const AT_ONCE = 64;

export interface ResendingOptions {
  readonly log: UnflushedLog;
  /** Sends writes to the server; `ended` is to be called for each, with 0 or a negative errno. */
  send(writes: readonly UnflushedWrite[]): void;
  /** All have ended. */
  done(outcome: ResendingOutcome): void;
}

/** What came of it. */
export interface ResendingOutcome {
  /** Writes that were sent, the refused ones included. */
  readonly resent: number;
  readonly refused: RefusedWrites | undefined;
}

/** Writes that a server had acknowledged, and does not take again. */
export interface RefusedWrites {
  /** Of the image. */
  readonly bytes: number;
  /** The server's answer to the first of them: a negative errno. */
  readonly errno: number;
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
  #refused: RefusedWrites | undefined;

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
    if (result < 0) {
      const { bytes, errno } = this.#refused ?? { bytes: 0, errno: result };
      this.#refused = { bytes: bytes + write.length, errno };
    }
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
      this.#options.done({ resent: this.#resent, refused: this.#refused });
    }
  }

  #waits({ offset, length }: UnflushedWrite): boolean {
    for (const other of this.#inFlight) {
      if (offset < other.offset + other.length && other.offset < offset + length) return true;
    }
    return false;
  }
}
