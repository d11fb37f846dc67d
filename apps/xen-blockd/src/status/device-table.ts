import { printable } from '@xenpv/xenbus';
import type { DeviceStatus } from './device-status.js';
import { formatBytes, formatTable } from './format.js';
import { formatStatistics } from './statistics-table.js';

/** `xen-blockd list`. */
export function formatDevices(devices: readonly DeviceStatus[]): string {
  if (devices.length === 0) return 'no disks\n';
  const rows = devices.map(({ device, vdev, size, readOnly, connected, abi, queues, image }) => [
    device,
    vdev ?? '-',
    size === undefined ? '-' : formatBytes(size),
    readOnly ? 'ro' : 'rw',
    connected ? `${abi}, ${queues} ${queues === 1 ? 'ring' : 'rings'}` : 'not connected',
    image ?? '-',
  ]);
  return `${formatTable([['device', 'vdev', 'size', 'mode', 'frontend', 'image'], ...rows])}\n`;
}

/** `xen-blockd stats`. */
export function formatAllStatistics(devices: readonly DeviceStatus[]): string {
  if (devices.length === 0) return 'no disks\n';
  return devices.map(({ device, statistics }) => `${printable(device)}\n${formatStatistics(statistics)}\n`).join('\n');
}
