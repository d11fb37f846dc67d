import type { Level, Logger } from 'pino';
import { domidOf, type GuestLineCounts, GuestLines } from './guest-lines.js';
import { RateLimit } from './rate-limit.js';

/** Lines of one kind about one device: so many in each interval, the others are counted. */
const LINES = 5;
/** Lines about all disks of a guest. Those of a kind are few, but a guest may have many disks, and there are many kinds. */
const GUEST_LINES = 200;
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
  /** How many lines about the disks of a guest are written. */
  readonly guestLimit?: RateLimit | undefined;
  /** The name of the guest that a subject is of. */
  readonly guestOf?: ((subject: string) => string | undefined) | undefined;
  /** Gets each line, those too that are not written. */
  readonly onLine?: ((kind: string, subject: string | undefined, line: LimitedLine) => void) | undefined;
}

/**
 * A log in which nobody can write without limit. Lines are counted by what they are about (`subject`, a device or an
 * image) and by their kind, and by guest; the ones that are left out are told in the next line of their kind, or a minute later.
 */
export class LimitedLog implements Disposable {
  readonly #logger: Logger;
  readonly #limit: RateLimit;
  readonly #guestLimit: RateLimit;
  readonly #guestLines = new GuestLines();
  readonly #options: LimitedLogOptions;
  readonly #timer: NodeJS.Timeout;

  constructor(logger: Logger, options: LimitedLogOptions = {}) {
    this.#logger = logger;
    this.#options = options;
    this.#limit = options.limit ?? new RateLimit(LINES, INTERVAL_MS);
    this.#guestLimit = options.guestLimit ?? new RateLimit(GUEST_LINES, INTERVAL_MS);
    this.#timer = setInterval(() => this.tellSuppressed(), INTERVAL_MS).unref();
  }

  /** Lines left out since the start. */
  get suppressed(): number {
    return this.#limit.suppressed + this.#guestLimit.suppressed;
  }

  /** Lines about a guest's disks, since it has them. */
  linesOf(domid: number): GuestLineCounts {
    return this.#guestLines.of(domid);
  }

  write(kind: string, subject: string | undefined, line: LimitedLine): void {
    const { level, message, fields } = line;
    this.#options.onLine?.(kind, subject, line);
    if (!this.#logger.isLevelEnabled(level)) return;
    const admitted = this.#admit(kind, subject);
    if (!admitted) return;
    const guest = subject === undefined ? undefined : this.#options.guestOf?.(subject);
    // A field that is undefined is left out.
    this.#logger[level]({ ...fields, guest, suppressed: admitted.suppressed || undefined, event: kind }, message);
  }

  /** Undefined if the line is to be left out; otherwise how many of its kind were left out before it. */
  #admit(kind: string, subject: string | undefined): { suppressed: number } | undefined {
    const ofKind = this.#limit.admit(`${kind} ${subject ?? ''}`);
    const domid = domidOf(subject);
    if (domid === undefined || subject === undefined) return ofKind;
    const ofGuest = ofKind && this.#guestLimit.admit(`guest domain ${domid}`);
    this.#guestLines.count(subject, domid, ofGuest !== undefined);
    return ofGuest && ofKind;
  }

  /** The subject is gone. */
  forget(subject: string): void {
    this.#guestLines.forget(subject);
    const lines = this.#limit.forget(` ${subject}`);
    if (lines > 0) this.#tell(subject, lines);
  }

  /** Tells what was left out of kinds that have been silent since. */
  tellSuppressed(): void {
    for (const limit of [this.#limit, this.#guestLimit]) {
      for (const { kind, suppressed } of limit.expire()) this.#tell(kind.slice(kind.indexOf(' ') + 1), suppressed);
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #tell(about: string, lines: number): void {
    this.#logger.warn({ about: about || undefined, lines }, 'lines of the log were left out, too many of one kind');
  }
}
