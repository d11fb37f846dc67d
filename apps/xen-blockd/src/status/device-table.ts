import { printable } from '@xenpv/xenbus';
import type { DeviceStatus, DiskReport } from './disks/device-status.js';
import { diskState, remedyOf, STATE_STYLES, troubleOf } from './disks/disk-state.js';
import { formatBytes, formatTable } from './format.js';
import { type Look, PLAIN } from './look.js';
import { formatStatistics } from './statistics-table.js';

const HEADER = ['device', 'guest', 'vdev', 'size', 'mode', 'frontend', 'image', 'why'];
const FRONTEND = HEADER.indexOf('frontend');
const WHY = HEADER.indexOf('why');

/** `xen-blockd list`. */
export function formatDevices(devices: readonly DiskReport[], look: Look = PLAIN): string {
  if (devices.length === 0) return 'no disks\n';
  const style = (row: number, column: number) => {
    if (row === 0) return 'strong';
    return column === FRONTEND || column === WHY ? STATE_STYLES[diskState(devices[row - 1])] : undefined;
  };
  const table = formatTable([HEADER, ...devices.map(row)], { look, style, left: [WHY] });
  return `${[table, ...devices.flatMap(stopLine), ...devices.flatMap(holdLines)].join('\n')}\n`;
}

function row(status: DiskReport): string[] {
  const { device, domid, guest, vdev, size, readOnly, image } = status;
  return [
    device,
    guest ?? `${domid}`,
    vdev ?? '-',
    size === undefined ? '-' : formatBytes(size),
    readOnly ? 'ro' : 'rw',
    frontend(status),
    image ?? '-',
    troubleOf(status) ?? '-',
  ];
}

/** Below the table: what keeps a disk from going on. */
function stopLine(status: DeviceStatus): string[] {
  const { device, stopped } = status;
  if (!stopped) return [];
  return [`${device} is stopped since ${stopped.since}: ${troubleOf(status)}; go on with ${remedyOf(status)}`];
}

function frontend(status: DeviceStatus): string {
  const { abi, queues } = status;
  const state = diskState(status);
  if (state === 'connected') return `${abi}, ${queues} ${queues === 1 ? 'ring' : 'rings'}`;
  return state === 'waiting' ? 'not connected' : state;
}

function holdLines({ device, held, orphanedSince }: DeviceStatus): string[] {
  const lines: string[] = [];
  if (held) lines.push(`${device} is held since ${held.since}, ${held.attempts} tries: ${printable(held.reason)}`);
  if (orphanedSince !== undefined) {
    lines.push(`${device} is served on, though xenstored does not know it since ${orphanedSince}`);
  }
  return lines;
}

/** `xen-blockd resume DISK`. */
export function formatResumed(devices: readonly DeviceStatus[]): string {
  const lines = devices.map(({ device, wasStopped, stopped, held }) => {
    if (held) return `${device} is tried again; it was held: ${printable(held.reason)}`;
    if (stopped) return `${device} is stopped again: ${stopped.errno} on ${stopped.operation}`;
    return wasStopped ? `${device} goes on` : `${device} was not stopped`;
  });
  return `${lines.join('\n')}\n`;
}

/** `xen-blockd throttle DISK`. */
export function formatLimits(devices: readonly DeviceStatus[], look: Look = PLAIN): string {
  const rows = devices.map(({ device, limits, guestLimits }) => [device, limits, guestLimits]);
  return `${formatTable([['device', 'limits', 'limits of its guest'], ...rows], { look })}\n`;
}

/** `xen-blockd stats`. */
export function formatAllStatistics(devices: readonly DeviceStatus[], look: Look = PLAIN): string {
  if (devices.length === 0) return 'no disks\n';
  return devices
    .map(({ device, statistics }) => `${printable(device)}\n${formatStatistics(statistics, look)}\n`)
    .join('\n');
}
