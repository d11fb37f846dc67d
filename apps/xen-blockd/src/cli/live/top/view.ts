import { printable } from '@xenpv/xenbus';
import { formatDisk } from '../../../status/disks/disk-report.js';
import { cutTo } from '../../../status/format.js';
import type { Look as Appearance } from '../../../status/look.js';
import { padEndTo, padStartTo } from '../../../status/text-width.js';
import type { Look } from '../looks.js';
import type { MeasuredDisk } from '../rates.js';
import { type PlacedColumn, placeColumns } from './columns.js';
import type { Key } from './keys.js';
import { matching, type SortOrder, sorted } from './sorting.js';

/** Where the view is drawn. */
export interface Space extends Pick<Appearance, 'paint'> {
  readonly columns: number;
  readonly rows: number;
}

const ORDERS: Readonly<Record<string, SortOrder>> = { i: 'iops', b: 'bandwidth', l: 'latency', n: 'name' };

const LIST_KEYS = 'q quit  i b l n sort  / filter  enter show';
const DISK_KEYS = 'q back  arrows scroll';
/** Above the disks: the title, a message or the filter, the header. Below: the keys. */
const AROUND = 4;

/**
 * What `xen-blockd top` shows, and what keys make of it. It knows no terminal and no daemon: in come looks and keys, out
 * come lines.
 */
export class TopView {
  #disks: readonly MeasuredDisk[] = [];
  #away: string | undefined;
  #order: SortOrder = 'iops';
  #filter = '';
  /** The filter is being typed. */
  #isTyping = false;
  /** The name of the disk that is chosen; and its line, where the next one is when it has gone. */
  #chosen: string | undefined;
  #line = 0;
  /** The first disk, or line of one disk, on the screen. */
  #top = 0;
  /** One disk is shown, from this line on. */
  #shown: { readonly device: string; line: number } | undefined;
  /** Lines of disks that the screen had room for. */
  #page = 1;

  /** What is known of the disks is kept when the daemon is away. */
  look(look: Look): void {
    this.#away = 'away' in look ? look.away : undefined;
    if ('disks' in look) this.#disks = look.disks;
  }

  /** False: the view is to be left. */
  press(key: Key): boolean {
    if (key.name === 'interrupt') return false;
    if (this.#isTyping) this.#type(key);
    else if (this.#shown) this.#pressInDisk(key, this.#shown);
    else return this.#pressInList(key);
    return true;
  }

  /** The lines of the screen, no more and no longer than there is space. */
  draw(space: Space): string[] {
    const lines = this.#shown ? this.#drawDisk(space, this.#shown) : this.#drawList(space);
    return lines.slice(0, space.rows);
  }

  #type(key: Key): void {
    if (key.name === 'text') this.#filter += key.text;
    else if (key.name === 'backspace') this.#filter = [...this.#filter].slice(0, -1).join('');
    else if (key.name === 'escape') this.#filter = '';
    if (key.name === 'enter' || key.name === 'escape') this.#isTyping = false;
  }

  #pressInList(key: Key): boolean {
    if (key.name === 'text') {
      if (key.text === 'q') return false;
      if (key.text === '/') this.#isTyping = true;
      this.#order = ORDERS[key.text] ?? this.#order;
    } else if (key.name === 'escape') this.#filter = '';
    else if (key.name === 'enter') {
      const device = this.#chosenOf(this.#listed());
      if (device !== undefined) this.#shown = { device, line: 0 };
    } else this.#move(steps(key, this.#page));
    return true;
  }

  #pressInDisk(key: Key, shown: { line: number }): void {
    const leaves = key.name === 'enter' || key.name === 'escape' || (key.name === 'text' && key.text === 'q');
    if (leaves) this.#shown = undefined;
    else shown.line = Math.max(0, shown.line + steps(key, this.#page));
  }

  #listed(): MeasuredDisk[] {
    return sorted(matching(this.#disks, this.#filter), this.#order);
  }

  #move(by: number): void {
    const disks = this.#listed();
    this.#chosenOf(disks);
    this.#line = within(this.#line + by, disks.length);
    this.#chosen = disks[this.#line]?.disk.device;
  }

  /** The name of the disk that is chosen among these: the one that was, or what is in its place. */
  #chosenOf(disks: readonly MeasuredDisk[]): string | undefined {
    const line = disks.findIndex(({ disk }) => disk.device === this.#chosen);
    this.#line = line < 0 ? within(this.#line, disks.length) : line;
    this.#chosen = disks[this.#line]?.disk.device;
    return this.#chosen;
  }

  #drawList(space: Space): string[] {
    const disks = this.#listed();
    const chosen = this.#chosenOf(disks);
    const { columns, rows, paint } = space;
    this.#page = Math.max(1, rows - AROUND);
    this.#top = within(this.#top, disks.length);
    if (this.#line < this.#top) this.#top = this.#line;
    if (this.#line >= this.#top + this.#page) this.#top = this.#line - this.#page + 1;
    const placed = placeColumns(disks, columns);
    const shown = disks.slice(this.#top, this.#top + this.#page);
    const lines = shown.map((disk) => rowOf(disk, placed, paint, disk.disk.device === chosen));
    const missing = Array.from({ length: this.#page - shown.length }, () => '');
    return [
      paint('strong', cutTo(columns, this.#title(disks.length))),
      this.#message(space),
      paint('strong', headerOf(placed, this.#order)),
      ...lines,
      ...missing,
      paint('faint', cutTo(columns, LIST_KEYS)),
    ];
  }

  #title(count: number): string {
    const all = this.#disks.length;
    const disks = count === all ? `${all}` : `${count} of ${all}`;
    const guests = new Set(this.#disks.map(({ disk }) => disk.domid)).size;
    return `${disks} ${all === 1 ? 'disk' : 'disks'}, ${guests} ${guests === 1 ? 'guest' : 'guests'}`;
  }

  #message({ columns, paint }: Space): string {
    if (this.#isTyping) return cutTo(columns, `filter: ${this.#filter}_`);
    if (this.#away !== undefined) return paint('bad', cutTo(columns, printable(this.#away)));
    return this.#filter === '' ? '' : cutTo(columns, `filter: ${this.#filter}`);
  }

  #drawDisk(space: Space, shown: { readonly device: string; line: number }): string[] {
    const { columns, rows, paint } = space;
    const found = this.#disks.find(({ disk }) => disk.device === shown.device);
    const report = found ? formatDisk(found.disk).trimEnd() : `${shown.device} is not there any more`;
    const lines = report.split('\n');
    this.#page = Math.max(1, rows - 2);
    shown.line = within(shown.line, lines.length - this.#page + 1);
    const part = lines.slice(shown.line, shown.line + this.#page).map((line) => cutTo(columns, line));
    const missing = Array.from({ length: this.#page - part.length }, () => '');
    return [this.#message(space), ...part, ...missing, paint('faint', cutTo(columns, DISK_KEYS))];
  }
}

/** The index of one of so many, as near to `index` as can be. */
function within(index: number, count: number): number {
  return Math.max(0, Math.min(index, count - 1));
}

function steps({ name }: Key, page: number): number {
  switch (name) {
    case 'up':
      return -1;
    case 'down':
      return 1;
    case 'page-up':
      return -page;
    case 'page-down':
      return page;
    case 'home':
      return Number.NEGATIVE_INFINITY;
    case 'end':
      return Number.POSITIVE_INFINITY;
    default:
      return 0;
  }
}

const GAP = '  ';

function headerOf(placed: readonly PlacedColumn[], order: SortOrder): string {
  const titles = placed.map(({ column, width }) => {
    const title = column.order === order ? `${column.title}*` : column.title;
    return aligned(title, column.left, width);
  });
  return titles.join(GAP);
}

function rowOf(
  measured: MeasuredDisk,
  placed: readonly PlacedColumn[],
  paint: Appearance['paint'],
  isChosen: boolean,
): string {
  const cells = placed.map(({ column, width }) => {
    const text = aligned(printable(column.text(measured)), column.left, width);
    return column.style && !isChosen ? paint(column.style(measured), text) : text;
  });
  const row = cells.join(GAP);
  return isChosen ? paint('chosen', row) : row;
}

function aligned(text: string, left: boolean | undefined, width: number): string {
  const cut = cutTo(width, text);
  return left ? padEndTo(width, cut) : padStartTo(width, cut);
}
