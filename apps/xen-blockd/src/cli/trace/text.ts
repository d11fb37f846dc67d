import { formatMicroseconds } from '../../status/latency.js';
import type { Look } from '../../status/look.js';
import type { TraceLine } from './lines.js';

const HEADER = 'time (UTC)       queue  request  point    id          op            sector + sectors   latency  status';

/** A line above all others. */
export function traceHeader({ paint }: Look): string {
  return paint('strong', HEADER);
}

/** `03:04:05.678901`, queue, request, point, id, operation, sector + sectors, latency, status. */
export function formatTraceLine(line: TraceLine, { paint }: Look): string {
  const { time, queue, request, point, id, op, sector, sectors, latency, status } = line;
  const cells = [
    time.slice(11, 26),
    `${queue}`.padStart(6),
    `${request ?? '-'}`.padStart(8),
    point.padEnd(8),
    id.padEnd(10),
    op.padEnd(7),
    `${sector ?? '-'}`.padStart(12),
    `+ ${sectors ?? '-'}`.padEnd(9),
    `${latency === undefined ? '-' : formatMicroseconds(latency)}`.padStart(9),
    status === 'ok' ? status : paint('bad', status),
  ];
  return cells.join(' ');
}
