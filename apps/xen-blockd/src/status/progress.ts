import { formatBytes } from './format.js';
import { isDumb, type OutputStream } from './look.js';

const DRAW_MS = 100;
const LINE_MS = 5000;
const COLUMNS = 80;
/** A bar of fewer columns says less than the texts that it has to share a line with. */
const LEAST_BAR = 10;
/** Columns of `100 %`, of the bytes that are done, and of those of a second: lines that follow one another keep their columns. */
const PERCENT = 5;
const BYTES = 10;
const GAP = '  ';

/** How far a piece of work is, which counts bytes. */
export interface Progress extends Disposable {
  update(done: number, total: number): void;
  /** Makes room for other output. */
  clear(): void;
}

/** Where progress is written to. */
export interface ProgressStream extends OutputStream {
  write(text: string): unknown;
}

/**
 * A bar as wide as the terminal; on one that can only print lines, a line from time to time. Nothing where the stream is no
 * terminal: what a timer's job writes to standard error is mailed to somebody.
 */
export function progressOn(stream: ProgressStream, env: NodeJS.ProcessEnv = process.env): Progress {
  if (!stream.isTTY) return NO_PROGRESS;
  return isDumb(env) ? new ProgressLines(stream) : new ProgressBar(stream);
}

export const NO_PROGRESS: Progress = { update() {}, clear() {}, [Symbol.dispose]() {} };

/** One line that is drawn again and again. */
class ProgressBar implements Progress {
  readonly #stream: ProgressStream;
  #first: { readonly done: number; readonly at: number } | undefined;
  #drawnAt = Number.NEGATIVE_INFINITY;
  #visible = false;

  constructor(stream: ProgressStream) {
    this.#stream = stream;
  }

  update(done: number, total: number): void {
    const now = performance.now();
    this.#first ??= { done, at: now };
    if (done < total && now - this.#drawnAt < DRAW_MS) return;
    this.#drawnAt = now;
    this.#visible = true;
    // A cursor behind the last column wraps on some terminals, and on others clearing takes that column's character.
    const room = (this.#stream.columns || COLUMNS) - 1;
    this.#stream.write(`\r${barLine(done, total, this.#rate(done, now), room)}\x1b[K`);
  }

  clear(): void {
    if (this.#visible) this.#stream.write('\r\x1b[K');
    this.#visible = false;
  }

  [Symbol.dispose](): void {
    this.clear();
  }

  /** Bytes a second since the first look: the work may have begun long before. */
  #rate(done: number, now: number): number {
    const { done: before, at } = this.#first ?? { done, at: now };
    return now > at ? Math.max(0, ((done - before) * 1000) / (now - at)) : 0;
  }
}

/** Lines that stay. */
class ProgressLines implements Progress {
  readonly #stream: ProgressStream;
  #writtenAt = performance.now();

  constructor(stream: ProgressStream) {
    this.#stream = stream;
  }

  update(done: number, total: number): void {
    const now = performance.now();
    if (now - this.#writtenAt < LINE_MS) return;
    this.#writtenAt = now;
    this.#stream.write(`${percentOf(done, total)} %, ${formatBytes(done)} of ${formatBytes(total)}\n`);
  }

  clear(): void {}

  [Symbol.dispose](): void {}
}

/** At most `room` columns. Texts that leave too little of the bar are left out, the last first; then the bar. */
function barLine(done: number, total: number, rate: number, room: number): string {
  const percent = `${percentOf(done, total)} %`.padStart(PERCENT);
  const amounts = `${GAP}${formatBytes(done).padStart(BYTES)} of ${formatBytes(total)}`;
  const speed = `${GAP}${formatBytes(Math.round(rate)).padStart(BYTES)}/s`;
  for (const texts of [percent + amounts + speed, percent + amounts, percent]) {
    const width = room - texts.length - '[] '.length;
    if (width < LEAST_BAR) continue;
    const filled = Math.floor((percentOf(done, total) * width) / 100);
    return `[${'#'.repeat(filled).padEnd(width, '.')}] ${texts}`;
  }
  return percent.slice(0, Math.max(0, room));
}

/** A job may find more to do, or less. */
function percentOf(done: number, total: number): number {
  return total > 0 ? Math.min(100, Math.max(0, Math.floor((100 * done) / total))) : 100;
}
