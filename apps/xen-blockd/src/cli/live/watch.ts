import { printable } from '@xenpv/xenbus';
import { diskState, STATE_STYLES } from '../../status/disks/disk-state.js';
import { cutTo, formatBandwidth, formatRate, formatTable } from '../../status/format.js';
import { formatMicroseconds } from '../../status/latency.js';
import { type Look as Appearance, isDumb, lookOf } from '../../status/look.js';
import type { Filters } from '../queries/filters.js';
import type { QueryOptions } from '../queries/query.js';
import { type Look, looks } from './looks.js';
import type { MeasuredDisk } from './rates.js';

const HEADER = ['device', 'guest', 'state', 'read/s', 'MB/s', 'write/s', 'MB/s', 'mean', 'in flight'];
const STATE = HEADER.indexOf('state');

/**
 * `xen-blockd stats --watch`: rates since the look before, until nobody reads them any more. On a terminal each look is
 * drawn over the one before; elsewhere they follow one another. Error: ERR_SOCKET, there is no daemon to begin with.
 */
export async function watchDisks(options: QueryOptions & Filters, seconds: number): Promise<void> {
  const ending = new AbortController();
  const end = () => ending.abort();
  process.stdout.on('error', end).on('close', end);
  const redraws = process.stdout.isTTY && !isDumb(process.env) && !options.json;
  for await (const look of looks({ ...options, seconds, signal: ending.signal })) {
    const time = new Date().toISOString();
    if (options.json) process.stdout.write(`${JSON.stringify(jsonOf(look, time))}\n`);
    else if (redraws) process.stdout.write(redrawn(text(look, time), process.stdout.rows));
    else process.stdout.write(`${text(look, time)}\n`);
  }
}

function text(look: Look, time: string): string {
  const appearance = lookOf(process.stdout);
  const body = 'away' in look ? awayLine(look.away, appearance) : formatRates(look.disks, appearance);
  return `${time}\n${body}\n`;
}

/** That there is no answer, in one line. */
function awayLine(reason: string, { columns = Number.POSITIVE_INFINITY, paint }: Appearance): string {
  return paint('bad', cutTo(columns, printable(reason)));
}

/** A line for each disk. */
function formatRates(disks: readonly MeasuredDisk[], look: Appearance): string {
  if (disks.length === 0) return 'no disks';
  const rows = disks.map(({ disk, rates }) => [
    disk.device,
    disk.guest ?? `${disk.domid}`,
    diskState(disk),
    formatRate(rates?.readIops),
    formatBandwidth(rates?.readBandwidth),
    formatRate(rates?.writeIops),
    formatBandwidth(rates?.writeBandwidth),
    rates?.latency === undefined ? '-' : formatMicroseconds(rates.latency),
    `${disk.statistics.inFlight}`,
  ]);
  const style = (row: number, column: number) => {
    if (row === 0) return 'strong';
    return column === STATE ? STATE_STYLES[diskState(disks[row - 1].disk)] : undefined;
  };
  return formatTable([HEADER, ...rows], { look, style });
}

/** Over what was there: from the top left, each line and at last the screen cleared behind it. As much as there is room. */
function redrawn(shown: string, rows: number): string {
  const lines = shown.split('\n').slice(0, Math.max(1, (rows || Number.POSITIVE_INFINITY) - 1));
  return `\u001b[H${lines.map((line) => `${line}\u001b[K`).join('\n')}\u001b[J`;
}

function jsonOf(look: Look, time: string): object {
  if ('away' in look) return { time, error: look.away };
  const disks = look.disks.map(({ disk, rates }) => {
    const { device, guest, domid, vdev, statistics } = disk;
    return { device, guest, domid, vdev, state: diskState(disk), ...rates, inFlight: statistics.inFlight };
  });
  return { time, disks };
}
