import type { Command } from 'commander';
import { DEFAULTS } from '../daemon/config.js';
import { askDaemon, type ControlRequest } from '../status/control-socket.js';
import type { DeviceStatus } from '../status/device-status.js';
import { formatAllStatistics, formatDevices } from '../status/device-table.js';
import { formatJson } from '../status/format.js';

interface Query {
  readonly name: string;
  readonly description: string;
  readonly request: ControlRequest;
  readonly format: (devices: readonly DeviceStatus[]) => string;
}

const QUERIES: readonly Query[] = [
  {
    name: 'list',
    description: 'list the disks that the daemon serves',
    request: { command: 'list' },
    format: formatDevices,
  },
  {
    name: 'stats',
    description: "print the disks' counters",
    request: { command: 'list' },
    format: formatAllStatistics,
  },
  {
    name: 'refresh',
    description: 'look at the size of every image again, and tell the guests',
    request: { command: 'refresh' },
    format: formatDevices,
  },
];

/** `xen-blockd list`, `stats` and `refresh`, which ask a running daemon. */
export function addQueries(program: Command): void {
  for (const { name, description, request, format } of QUERIES) {
    program
      .command(name)
      .description(description)
      .option('--socket <path>', "the daemon's control socket", DEFAULTS['control-socket'])
      .option('--json', 'print JSON')
      .action(async ({ socket, json }: { socket: string; json?: boolean }) => {
        const devices = await askDaemon(socket, request);
        process.stdout.write(json ? formatJson(devices) : format(devices));
      });
  }
}
