import type { WriteStream } from 'node:tty';

const INTERVAL_MS = 100;
const WIDTH = 30;
const MIB = 1024 * 1024;

/** How far a piece of work is. */
export interface Progress extends Disposable {
  update(done: number, total: number): void;
  /** Makes room for other output. */
  clear(): void;
}

/** Draws a bar if the stream is a terminal; otherwise it stays silent. */
export function progressOn(stream: WriteStream): Progress {
  return stream.isTTY ? new ProgressBar(stream) : NO_PROGRESS;
}

export const NO_PROGRESS: Progress = { update() {}, clear() {}, [Symbol.dispose]() {} };

/** One line that is drawn again and again. Counts bytes. */
class ProgressBar implements Progress {
  readonly #stream: WriteStream;
  readonly #began = performance.now();
  #drawnAt = 0;
  #visible = false;

  constructor(stream: WriteStream) {
    this.#stream = stream;
  }

  update(done: number, total: number): void {
    const now = performance.now();
    if (done < total && now - this.#drawnAt < INTERVAL_MS) return;
    this.#drawnAt = now;
    this.#visible = true;
    const rate = done / MIB / ((now - this.#began) / 1000);
    const filled = Math.round((done / total) * WIDTH);
    const bar = '#'.repeat(filled).padEnd(WIDTH, '.');
    const percent = `${Math.floor((done / total) * 100)}`.padStart(3);
    this.#stream.write(`\r[${bar}] ${percent} %  ${(done / MIB).toFixed(0)} MiB  ${rate.toFixed(0)} MiB/s\x1b[K`);
  }

  clear(): void {
    if (this.#visible) this.#stream.write('\r\x1b[K');
    this.#visible = false;
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}
