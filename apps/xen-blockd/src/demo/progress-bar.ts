import type { WriteStream } from 'node:tty';

const INTERVAL_MS = 100;
const WIDTH = 30;
const MIB = 1024 * 1024;

/** One line that is drawn again and again on a terminal; on anything else it stays silent. */
export class ProgressBar implements Disposable {
  readonly #stream: WriteStream;
  readonly #active: boolean;
  readonly #began = performance.now();
  #drawnAt = 0;
  #visible = false;

  constructor(stream: WriteStream, wanted: boolean) {
    this.#stream = stream;
    this.#active = wanted && stream.isTTY;
  }

  update(done: number, total: number): void {
    if (!this.#active) return;
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

  /** Clears the line, so that something else can be written. */
  clear(): void {
    if (this.#visible) this.#stream.write('\r\x1b[K');
    this.#visible = false;
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}
