import { printable } from '@xenpv/xenbus';
import type { DeviceStatus } from './device-status.js';
import { formatBytes, formatTable } from './format.js';
import { formatStatistics } from './statistics-table.js';

/** `xen-blockd list`. */
export function formatDevices(devices: readonly DeviceStatus[]): string {
  if (devices.length === 0) return 'no disks\n';
  const rows = devices.map(({ device, vdev, size, readOnly, image, ...status }) => [
    device,
    vdev ?? '-',
    size === undefined ? '-' : formatBytes(size),
    readOnly ? 'ro' : 'rw',
    frontend(status),
    image ?? '-',
  ]);
  const table = formatTable([['device', 'vdev', 'size', 'mode', 'frontend', 'image'], ...rows]);
  return `${[table, ...devices.flatMap(stopLine), ...devices.flatMap(holdLines)].join('\n')}\n`;
}

/** Below the table: what keeps a disk from going on. */
function stopLine({ device, stopped }: DeviceStatus): string[] {
  if (!stopped) return [];
  const { since, operation, errno, offset, length } = stopped;
  const where = length > 0 ? ` of ${length} bytes at ${offset}` : '';
  return [
    `${device} is stopped since ${since}: ${errno} on ${operation}${where}; go on with xen-blockd resume ${device}`,
  ];
}

function frontend({
  connected,
  held,
  abi,
  queues,
}: Pick<DeviceStatus, 'connected' | 'held' | 'abi' | 'queues'>): string {
  if (held) return 'held';
  return connected ? `${abi}, ${queues} ${queues === 1 ? 'ring' : 'rings'}` : 'not connected';
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
export function formatLimits(devices: readonly DeviceStatus[]): string {
  const rows = devices.map(({ device, limits, guestLimits }) => [device, limits, guestLimits]);
  return `${formatTable([['device', 'limits', 'limits of its guest'], ...rows])}\n`;
}

/** `xen-blockd stats`. */
export function formatAllStatistics(devices: readonly DeviceStatus[]): string {
  if (devices.length === 0) return 'no disks\n';
  return devices.map(({ device, statistics }) => `${printable(device)}\n${formatStatistics(statistics)}\n`).join('\n');
}
