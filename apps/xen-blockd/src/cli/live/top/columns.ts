import { printable } from '@xenpv/xenbus';
import { diskState, STATE_STYLES } from '../../../status/disks/disk-state.js';
import { formatBandwidth, formatRate } from '../../../status/format.js';
import { formatMicroseconds } from '../../../status/latency.js';
import type { Style } from '../../../status/look.js';
import { textWidth } from '../../../status/text-width.js';
import type { MeasuredDisk } from '../rates.js';
import type { SortOrder } from './sorting.js';

/** A column of the view: what it shows, and how soon it gives way when there is no room for all. */
export interface Column {
  readonly title: string;
  readonly text: (measured: MeasuredDisk) => string;
  /** The column with the greatest gives way first. */
  readonly rank: number;
  readonly left?: boolean;
  readonly style?: (measured: MeasuredDisk) => Style;
  /** Disks may be in the order of this column. */
  readonly order?: SortOrder;
}

const COLUMNS: readonly Column[] = [
  { title: 'device', text: ({ disk }) => disk.device, rank: 0, left: true, order: 'name' },
  { title: 'guest', text: ({ disk }) => disk.guest ?? `${disk.domid}`, rank: 6, left: true },
  {
    title: 'state',
    text: ({ disk }) => diskState(disk),
    rank: 4,
    left: true,
    style: ({ disk }) => STATE_STYLES[diskState(disk)],
  },
  { title: 'IOPS', text: ({ rates }) => formatRate(rates?.iops), rank: 1, order: 'iops' },
  {
    title: 'MB/s',
    text: ({ rates }) => formatBandwidth(rates && rates.readBandwidth + rates.writeBandwidth),
    rank: 2,
    order: 'bandwidth',
  },
  {
    title: 'mean',
    text: ({ rates }) => (rates?.latency === undefined ? '-' : formatMicroseconds(rates.latency)),
    rank: 3,
    order: 'latency',
  },
  { title: 'busy', text: ({ disk }) => `${disk.statistics.inFlight}`, rank: 5 },
  { title: 'read/s', text: ({ rates }) => formatRate(rates?.readIops), rank: 7 },
  { title: 'MB/s', text: ({ rates }) => formatBandwidth(rates?.readBandwidth), rank: 9 },
  { title: 'write/s', text: ({ rates }) => formatRate(rates?.writeIops), rank: 8 },
  { title: 'MB/s', text: ({ rates }) => formatBandwidth(rates?.writeBandwidth), rank: 10 },
];

const GAP = 2;
/** Numbers change: a column is no narrower than most of them, so that it does not jump. */
const LEAST_WIDTH = 6;

/** A column and its place. */
export interface PlacedColumn {
  readonly column: Column;
  readonly width: number;
}

/** The columns that a terminal has room for, the most important ones first to get it. The first one is cut to fit. */
export function placeColumns(disks: readonly MeasuredDisk[], columns: number): PlacedColumn[] {
  const all = COLUMNS.map((column) => ({ column, width: widthOf(column, disks) }));
  const chosen = new Set<Column>();
  let room = columns;
  for (const { column, width } of [...all].sort((one, other) => one.column.rank - other.column.rank)) {
    const needed = chosen.size === 0 ? width : width + GAP;
    if (chosen.size > 0 && needed > room) break;
    chosen.add(column);
    room -= needed;
  }
  return all
    .filter(({ column }) => chosen.has(column))
    .map(({ column, width }) => ({ column, width: Math.min(width, columns) }));
}

function widthOf({ title, text, left }: Column, disks: readonly MeasuredDisk[]): number {
  const least = left ? 0 : LEAST_WIDTH;
  // One more, for the mark of the order.
  return disks.reduce(
    (most, disk) => Math.max(most, textWidth(printable(text(disk)))),
    Math.max(least, title.length + 1),
  );
}
