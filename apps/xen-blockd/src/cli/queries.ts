import type { Command } from 'commander';
import { DEFAULTS } from '../daemon/config.js';
import { BlockdError } from '../errors.js';
import { askDaemon, type ControlRequest } from '../status/control-socket.js';
import type { DeviceStatus } from '../status/device-status.js';
import { formatAllStatistics, formatDevices } from '../status/device-table.js';

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
];

interface QueryOptions {
  readonly socket: string;
  readonly json?: boolean;
}

/** `xen-blockd list`, `stats` and `refresh`, which ask a running daemon. */
export function addQueries(program: Command): void {
  for (const { name, description, request, format } of QUERIES) {
    addQuery(program, name, description).action(async (options: QueryOptions) => {
      await ask(options, request, format);
    });
  }
  addRefresh(program);
}

function addRefresh(program: Command): void {
  addQuery(program, 'refresh', 'look at the sizes of images again, and tell the guests')
    .argument('[disk]', 'only this one, as list names it: qdisk-5-51712')
    .option('--allow-shrink', 'the image may have become smaller: the guest loses its end')
    .action(async (device: string | undefined, options: QueryOptions & { allowShrink?: boolean }) => {
      const { allowShrink } = options;
      if (allowShrink && device === undefined) {
        throw new BlockdError('ERR_USAGE', 'refresh', '--allow-shrink needs the name of the disk; see xen-blockd list');
      }
      await ask(options, { command: 'refresh', device, allowShrink }, formatDevices);
    });
}

function addQuery(program: Command, name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option('--socket <path>', "the daemon's control socket", DEFAULTS['control-socket'])
    .option('--json', 'print JSON');
}

async function ask({ socket, json }: QueryOptions, request: ControlRequest, format: Query['format']): Promise<void> {
  const devices = await askDaemon(socket, request);
  process.stdout.write(json ? `${JSON.stringify(devices, null, 2)}\n` : format(devices));
}
