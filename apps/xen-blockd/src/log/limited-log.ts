import type { Level, Logger } from 'pino';
import { RateLimit } from './rate-limit.js';

/** Lines of one kind about one device: so many in each interval, the others are counted. */
const LINES = 5;
const INTERVAL_MS = 60_000;

type Fields = Record<string, unknown>;

/** A line of the log that somebody else can cause. */
export interface LimitedLine {
  readonly level: Level;
  readonly message: string;
  readonly fields?: Fields | undefined;
}

/** What a limited log asks and tells. */
export interface LimitedLogOptions {
  /** How many lines of a kind are written. */
  readonly limit?: RateLimit | undefined;
  /** The name of the guest that a subject is of. */
  readonly guestOf?: ((subject: string) => string | undefined) | undefined;
  /** Gets each line, those too that are not written. */
  readonly onLine?: ((kind: string, subject: string | undefined, line: LimitedLine) => void) | undefined;
}

/**
 * A log in which nobody can write without limit. Lines are counted by what they are about (`subject`, a device or an
 * image) and by their kind; the ones that are left out are told in the next line of their kind, or a minute later.
 */
export class LimitedLog implements Disposable {
  readonly #logger: Logger;
  readonly #limit: RateLimit;
  readonly #options: LimitedLogOptions;
  readonly #timer: NodeJS.Timeout;

  constructor(logger: Logger, options: LimitedLogOptions = {}) {
    this.#logger = logger;
    this.#options = options;
    this.#limit = options.limit ?? new RateLimit(LINES, INTERVAL_MS);
    this.#timer = setInterval(() => this.tellSuppressed(), INTERVAL_MS).unref();
  }

  /** Lines left out since the start. */
  get suppressed(): number {
    return this.#limit.suppressed;
  }

  write(kind: string, subject: string | undefined, line: LimitedLine): void {
    const { level, message, fields } = line;
    this.#options.onLine?.(kind, subject, line);
    if (!this.#logger.isLevelEnabled(level)) return;
    const admitted = this.#limit.admit(`${kind} ${subject ?? ''}`);
    if (!admitted) return;
    const guest = subject === undefined ? undefined : this.#options.guestOf?.(subject);
    // A field that is undefined is left out.
    this.#logger[level]({ ...fields, guest, suppressed: admitted.suppressed || undefined, event: kind }, message);
  }

  /** The subject is gone. */
  forget(subject: string): void {
    const lines = this.#limit.forget(` ${subject}`);
    if (lines > 0) this.#tell(subject, lines);
  }

  /** Tells what was left out of kinds that have been silent since. */
  tellSuppressed(): void {
    for (const { kind, suppressed } of this.#limit.expire()) this.#tell(kind.slice(kind.indexOf(' ') + 1), suppressed);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #tell(about: string, lines: number): void {
    this.#logger.warn({ about: about || undefined, lines }, 'lines of the log were left out, too many of one kind');
  }
}
