import { lineText, type NotedLine } from '../line-text.js';

/** How long a line is of interest. */
const KEPT_MS = 3_600_000;
/** Kinds of lines, each of one disk or image. */
const MAX_ENTRIES = 500;
const LEVELS: readonly string[] = ['warn', 'error', 'fatal'];

/** Lines of one kind about one disk or image. */
export interface RecentError {
  /** `qdisk-5-51712`, or an image; null for what is about none. */
  readonly about: string | null;
  readonly guest: string | null;
  /** As docs/log-events.md has it. */
  readonly kind: string;
  readonly level: string;
  /** The last line. */
  readonly message: string;
  /** Lines since the first. */
  readonly count: number;
  /** Since the last line. */
  readonly secondsAgo: number;
}

interface Entry extends Omit<RecentError, 'secondsAgo'> {
  readonly at: number;
}

/**
 * The warnings and errors that the log got in the last hour, those too that it left out. However many lines somebody
 * causes, those of one kind about one disk are one entry.
 */
export class RecentErrors {
  readonly #guestOf: (subject: string) => string | undefined;
  /** The one that was told of last is the last one. */
  readonly #entries = new Map<string, Entry>();

  constructor(guestOf: (subject: string) => string | undefined) {
    this.#guestOf = guestOf;
  }

  /** `now` is in milliseconds, of a clock that never goes back. */
  note(kind: string, subject: string | undefined, line: NotedLine, now: number): void {
    const { level } = line;
    if (!LEVELS.includes(level)) return;
    const key = `${kind} ${subject ?? ''}`;
    const count = (this.#entries.get(key)?.count ?? 0) + 1;
    this.#entries.delete(key);
    const about = subject ?? null;
    this.#entries.set(key, { about, guest: this.#guest(about), kind, level, message: lineText(line), count, at: now });
    if (this.#entries.size > MAX_ENTRIES) this.#entries.delete(this.#entries.keys().next().value ?? '');
  }

  /** The last one first; of one disk or image if it is named. */
  list(now: number, about?: string): RecentError[] {
    for (const [key, { at }] of this.#entries) if (now - at > KEPT_MS) this.#entries.delete(key);
    const entries = [...this.#entries.values()].reverse();
    return entries
      .filter((entry) => about === undefined || entry.about === about)
      .map(({ at, ...entry }) => ({
        ...entry,
        // After a start a guest's name comes later than the first lines about its disks.
        guest: entry.guest ?? this.#guest(entry.about),
        secondsAgo: Math.round((now - at) / 1000),
      }));
  }

  #guest(about: string | null): string | null {
    return (about === null ? undefined : this.#guestOf(about)) ?? null;
  }
}
