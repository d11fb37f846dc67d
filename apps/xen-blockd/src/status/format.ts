import { printable } from '@xenpv/xenbus';
import { type Look, PLAIN, type Style } from './look.js';
import { characterWidth, padEndTo, padStartTo, textWidth } from './text-width.js';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** Bytes for a person: `33.5 MiB`. */
export function formatBytes(bytes: number): string {
  let unit = 0;
  while (bytes >= 1024 && unit < UNITS.length - 1) {
    bytes /= 1024;
    unit++;
  }
  return unit === 0 ? `${bytes} B` : `${bytes.toFixed(1)} ${UNITS[unit]}`;
}

/** Requests a second, for people. */
export function formatRate(rate: number | undefined): string {
  if (rate === undefined) return '-';
  return rate.toFixed(rate > 0 && rate < 10 ? 1 : 0);
}

/** Bytes a second as MB/s, of 1000000 bytes. */
export function formatBandwidth(bandwidth: number | undefined): string {
  return bandwidth === undefined ? '-' : (bandwidth / 1e6).toFixed(1);
}

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A time for a person, with the two largest units that it has: `3 d 4 h`, `12 s`. */
export function formatDuration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < MINUTE) return `${seconds} s`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min ${seconds % MINUTE} s`;
  if (seconds < DAY) return `${Math.floor(seconds / HOUR)} h ${Math.floor((seconds % HOUR) / MINUTE)} min`;
  return `${Math.floor(seconds / DAY)} d ${Math.floor((seconds % DAY) / HOUR)} h`;
}

/** JSON for a person, who may look at it on a terminal. */
export function formatJson(value: unknown): string {
  const lines = JSON.stringify(value, null, 2).split('\n');
  return `${lines.map(printable).join('\n')}\n`;
}

/** Text that has at most so many columns of a terminal: the end of a longer one is replaced. */
export function cutTo(columns: number, text: string): string {
  if (textWidth(text) <= columns) return text;
  let shown = '';
  let room = columns - 1;
  for (const character of text) {
    room -= characterWidth(character);
    if (room < 0) break;
    shown += character;
  }
  return columns < 1 ? '' : `${shown}…`;
}

/** How a table looks beside its texts. */
export interface TableLook {
  readonly look?: Look;
  /** The style of a cell, by its row and column; the first row is the header. */
  readonly style?: (row: number, column: number) => Style | undefined;
  /** Columns besides the first whose texts begin at the left. */
  readonly left?: readonly number[];
}

const INDENT = '  ';
const GAP = '  ';

/**
 * Rows as text columns: the first to the left, the others to the right. A cell is one line, whatever is in it. On a
 * terminal a line is cut where that ends.
 */
export function formatTable(
  texts: readonly (readonly string[])[],
  { look = PLAIN, style, left }: TableLook = {},
): string {
  const rows = texts.map((row) => row.map(printable));
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => textWidth(row[column]))));
  const isLeft = (column: number) => column === 0 || left?.includes(column);
  const last = widths.length - 1;
  const cells = rows.map((row) =>
    row.map((text, column) => {
      if (!isLeft(column)) return padStartTo(widths[column], text);
      // No spaces at the end of a line.
      return column === last ? text : padEndTo(widths[column], text);
    }),
  );
  return cells.map((row, index) => line(row, look, (column) => style?.(index, column))).join('\n');
}

/** The cells of a row, as many and as much of them as there is room for. */
function line(
  cells: readonly string[],
  { columns, paint }: Look,
  style: (column: number) => Style | undefined,
): string {
  let room = columns ?? Number.POSITIVE_INFINITY;
  let text = '';
  for (const [column, cell] of cells.entries()) {
    const gap = column === 0 ? INDENT : GAP;
    if (room <= gap.length) break;
    const shown = cutTo(room - gap.length, cell);
    const painted = style(column);
    text += gap + (painted ? paint(painted, shown) : shown);
    room -= gap.length + textWidth(shown);
  }
  return text;
}
