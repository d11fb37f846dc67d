import type { Command } from 'commander';
import { DEFAULTS } from '../daemon/config.js';
import { askDaemon, type ControlRequest } from '../status/control-socket.js';
import type { DeviceStatus } from '../status/device-status.js';
import { formatAllStatistics, formatDevices, formatResumed } from '../status/device-table.js';

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

/** `xen-blockd list`, `stats`, `refresh` and `resume`, which ask a running daemon. */
export function addQueries(program: Command): void {
  for (const { name, description, request, format } of QUERIES) {
    command(program, name, description).action((options: Options) => ask(options, request, format));
  }
  command(program, 'resume', 'go on with a disk that an error of its storage has stopped')
    .argument('<disk>', 'its name or image, as list shows them, or its backend path')
    .action((disk: string, options: Options) => ask(options, { command: 'resume', disk }, formatResumed));
}

interface Options {
  readonly socket: string;
  readonly json?: boolean;
}

function command(program: Command, name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option('--socket <path>', "the daemon's control socket", DEFAULTS['control-socket'])
    .option('--json', 'print JSON');
}

async function ask({ socket, json }: Options, request: ControlRequest, format: Query['format']): Promise<void> {
  const devices = await askDaemon(socket, request);
  process.stdout.write(json ? `${JSON.stringify(devices, null, 2)}\n` : format(devices));
}
