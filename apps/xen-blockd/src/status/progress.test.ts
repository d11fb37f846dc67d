import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { progressOn } from './progress.js';

const GIB = 2 ** 30;
const XTERM = { TERM: 'xterm' };

/** A terminal that wraps, as far as progress needs one: `\r`, `\n` and the clearing of the rest of a line. */
class Screen {
  readonly isTTY = true;
  columns: number | undefined;
  rows = [''];
  #column = 0;

  constructor(columns?: number) {
    this.columns = columns;
  }

  write(text: string): void {
    for (const [piece] of text.matchAll(/\u001b\[K|[\s\S]/g)) this.#take(piece);
  }

  #take(piece: string): void {
    const last = this.rows.length - 1;
    const line = this.rows[last];
    if (piece === '\r') this.#column = 0;
    else if (piece === '\n') this.#begin();
    else if (piece === '\u001b[K') this.rows[last] = line.slice(0, this.#column);
    else if (this.#column === (this.columns || 80)) {
      this.#begin();
      this.#take(piece);
    } else {
      this.rows[last] = line.slice(0, this.#column).padEnd(this.#column) + piece + line.slice(this.#column + 1);
      this.#column++;
    }
  }

  #begin(): void {
    this.rows.push('');
    this.#column = 0;
  }
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('progress on a terminal', () => {
  it.each([
    [20, /^\[####\.{7}\] {2}45 %$/],
    [30, /^\[#{9}\.{12}\] {2}45 %$/],
    [80, /^\[#+\.+\] {2}45 % +1\.4 GiB of 3\.0 GiB +100\.0 MiB\/s$/],
    [200, /^\[#{69}\.{85}\] {2}45 % +1\.4 GiB of 3\.0 GiB +100\.0 MiB\/s$/],
    [undefined, /^\[#+\.+\] {2}45 % +1\.4 GiB/],
    [0, /^\[#+\.+\] {2}45 % +1\.4 GiB/],
  ])('of %s columns is a bar of all but one of them', (columns, line) => {
    const screen = new Screen(columns);
    using progress = progressOn(screen, XTERM);
    progress.update(0.455 * 3 * GIB - 100 * 2 ** 20, 3 * GIB);
    vi.advanceTimersByTime(1000);
    progress.update(0.455 * 3 * GIB, 3 * GIB);
    expect([...screen.rows]).toEqual([expect.stringMatching(line)]);
    expect(screen.rows[0]).toHaveLength((columns || 80) - 1);
  });

  it('never wraps, however narrow that is and whatever is done', () => {
    for (let columns = 1; columns <= 120; columns++) {
      const screen = new Screen(columns);
      using progress = progressOn(screen, XTERM);
      for (const [done, total] of [
        [0, 0],
        [0, 1],
        [1023 * GIB, 1024 * GIB],
        [2 ** 52, 2 ** 52],
        [5, 4],
      ]) {
        vi.advanceTimersByTime(1000);
        progress.update(done, total);
        expect([columns, screen.rows.length, screen.rows[0].length < columns]).toEqual([columns, 1, true]);
      }
    }
  });

  it('leaves nothing of a line that was longer, and of none at the end', () => {
    const screen = new Screen(80);
    const progress = progressOn(screen, XTERM);
    progress.update(1023 * GIB, 1024 * GIB);
    screen.columns = 30;
    vi.advanceTimersByTime(1000);
    progress.update(1024 * GIB, 1024 * GIB);
    expect(screen.rows).toEqual([`[${'#'.repeat(21)}] 100 %`]);
    progress[Symbol.dispose]();
    progress[Symbol.dispose]();
    expect(screen.rows).toEqual(['']);
  });

  it('is drawn at most every tenth of a second, but for the end', () => {
    const screen = new Screen(20);
    using progress = progressOn(screen, XTERM);
    progress.update(0, 100);
    progress.update(50, 100);
    expect(screen.rows[0]).toContain('  0 %');
    progress.update(100, 100);
    expect(screen.rows[0]).toContain('100 %');
  });

  it.each(['dumb', ''])('that is called %j is a line every five seconds', (TERM) => {
    const screen = new Screen(20);
    using progress = progressOn(screen, { TERM });
    for (let second = 0; second <= 11; second++) {
      progress.update(second * GIB, 11 * GIB);
      vi.advanceTimersByTime(1000);
    }
    const text = screen.rows.join('');
    expect(text).toBe('45 %, 5.0 GiB of 11.0 GiB90 %, 10.0 GiB of 11.0 GiB');
  });
});

it('progress is nothing where there is no terminal', () => {
  const write = vi.fn();
  using progress = progressOn({ columns: 80, write }, XTERM);
  for (let second = 0; second < 60; second++) {
    progress.update(second, 60);
    vi.advanceTimersByTime(1000);
  }
  expect(write).not.toHaveBeenCalled();
});
