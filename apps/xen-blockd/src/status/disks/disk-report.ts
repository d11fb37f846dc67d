import { printable } from '@xenpv/xenbus';
import { formatBytes, formatDuration } from '../format.js';
import { type Look, PLAIN } from '../look.js';
import { formatStatistics } from '../statistics-table.js';
import { averageText } from './averages.js';
import type { DiskReport } from './device-status.js';
import { adviceOf, diskState, STATE_STYLES, stateSince, storageErrorText, troubleOf } from './disk-state.js';

/** A line of a group; one without a value is left out. */
type Entry = readonly [name: string, value: string | undefined];

/** `xen-blockd show DISK`. `now` is in milliseconds since 1970. */
export function formatDisk(disk: DiskReport, look: Look = PLAIN, now: number = Date.now()): string {
  const groups: readonly (readonly [title: string, entries: readonly Entry[]])[] = [
    ['guest', guestOf(disk)],
    ['state', stateOf(disk, look, now)],
    ['image', imageOf(disk)],
    ['connection', connectionOf(disk)],
    ['limits', limitsOf(disk)],
    ['requests', requestsOf(disk, now)],
  ];
  const width = Math.max(...groups.flatMap(([, entries]) => entries.map(([name]) => name.length)));
  const texts = groups.map(([title, entries]) => {
    const lines = entries.flatMap(([name, value]) =>
      value === undefined ? [] : [`  ${name.padEnd(width)}  ${value}`],
    );
    return [look.paint('strong', title), ...lines].join('\n');
  });
  return `${printable(disk.device)}\n\n${texts.join('\n\n')}\n${formatStatistics(disk.statistics, look)}\n`;
}

function guestOf({ guest, domid, vdev, type, deviceType, backendPath }: DiskReport): Entry[] {
  return [
    ['name', text(guest)],
    ['domid', `${domid}`],
    ['vdev', text(vdev)],
    ['type', `${type}, ${deviceType ?? 'not known yet'}`],
    ['backend path', text(backendPath)],
  ];
}

function stateOf(disk: DiskReport, { paint }: Look, now: number): Entry[] {
  const state = diskState(disk);
  const since = stateSince(disk);
  const trouble = troubleOf(disk);
  const advice = adviceOf(disk);
  return [
    ['state', paint(STATE_STYLES[state], state === 'waiting' ? 'waiting for its frontend' : state)],
    ['since', since && `${since}, for ${formatDuration(now - Date.parse(since))}`],
    ['why', trouble && printable(trouble)],
    ['tries', disk.held && `${disk.held.attempts}, the next one comes by itself`],
    ['remedy', advice && printable(advice)],
    ['paused', disk.paused && state !== 'paused' ? `too, since ${disk.paused}` : undefined],
    ['last error', lastErrorOf(disk, now)],
    ['on error', disk.onError],
  ];
}

/** Whether it is over or not. */
function lastErrorOf({ lastError }: DiskReport, now: number): string | undefined {
  if (!lastError) return undefined;
  const { at, message, count } = lastError;
  return `${when(at, now)}${count > 1 ? `, ${count} times` : ''}: ${printable(message)}`;
}

const when = (at: string, now: number): string => `${at}, ${formatDuration(now - Date.parse(at))} ago`;

function imageOf({ image, target, format, engine, size, sectorSize, readOnly, identity, shared }: DiskReport): Entry[] {
  return [
    [
      'image',
      text(image) ?? (target === '' ? 'no medium' : [...(target ? [printable(target)] : []), 'not open'].join(', ')),
    ],
    ['format', text(format)],
    ['engine', engine],
    ['size', size === undefined ? undefined : `${formatBytes(size)} (${size} bytes)`],
    ['sector', sectorSize === undefined ? undefined : `${sectorSize} bytes`],
    ['mode', readOnly === undefined ? undefined : readOnly ? 'read-only' : 'read and write'],
    ['identity', text(identity)],
    ['used by', usersOf({ image, engine, format, readOnly, shared })],
  ];
}

/** Whom the image's lock lets in. What an NBD server lends is the server's to lock. */
function usersOf({ image, engine, format, readOnly, shared }: Partial<DiskReport>): string | undefined {
  if (image === undefined || shared === undefined) return undefined;
  if (engine === 'nbd' && format === 'raw') return 'whom its NBD server lets in';
  if (shared) return 'this disk and others, which may write it too (mode w!)';
  return readOnly ? 'readers only' : 'this disk only';
}

function connectionOf({ connected, abi, queues, ringPages, features }: DiskReport): Entry[] {
  return [
    ['features', features && featuresOf(features)],
    ['ABI', connected ? abi : 'no frontend'],
    ['queues', connected ? `${queues}` : undefined],
    ['ring', connected && ringPages > 0 ? `${ringPages} ${ringPages === 1 ? 'page' : 'pages'} each` : undefined],
  ];
}

function featuresOf({
  flush,
  discard,
  secureDiscard,
  maxIndirectSegments,
}: NonNullable<DiskReport['features']>): string {
  const names = [
    ...(flush ? ['flush'] : []),
    ...(discard ? ['discard'] : []),
    ...(secureDiscard ? ['secure discard'] : []),
    ...(maxIndirectSegments > 0 ? [`indirect requests of ${maxIndirectSegments} segments`] : []),
  ];
  return names.join(', ') || 'none';
}

function limitsOf({ limits, guestLimits }: DiskReport): Entry[] {
  return [
    ['of the disk', limits],
    ['of its guest', guestLimits],
  ];
}

function requestsOf({ statistics, oldestRequestMs, averages, lastStorageError }: DiskReport, now: number): Entry[] {
  const { inFlight, kept, recovered, throttledTimeNs, unknown } = statistics;
  const errors = [statistics.read, statistics.write, statistics.flush, statistics.discard].flatMap((counted) =>
    Object.entries(counted.errors),
  );
  const byErrno = new Map<string, number>();
  for (const [errno, count] of errors) byErrno.set(errno, (byErrno.get(errno) ?? 0) + count);
  const list = [...byErrno].map(([errno, count]) => `${errno} ${count}`).join(', ');
  return [
    ['in flight', `${inFlight}${kept > 0 ? `, of which ${kept} wait for resume` : ''}`],
    ['oldest', oldestRequestMs > 0 ? `${(oldestRequestMs / 1000).toFixed(1)} s in flight` : undefined],
    ['last minute', averages && averageText(averages, 'minute')],
    ['last 5 minutes', averages && averageText(averages, 'fiveMinutes')],
    ['storage errors', list || 'none'],
    ['the last one', lastStorageError && `${storageErrorText(lastStorageError)}, ${when(lastStorageError.at, now)}`],
    ['recovered', `${recovered}`],
    ['throttled', `${(throttledTimeNs / 1e9).toFixed(1)} s`],
    ['unknown', unknown > 0 ? `${unknown} requests of no known operation` : undefined],
  ];
}

const text = (value: string | undefined): string | undefined => (value === undefined ? undefined : printable(value));
