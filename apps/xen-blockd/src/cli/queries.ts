import type { Command } from 'commander';
import { ExitCode } from '../errors.js';
import { askDaemon, type ControlRequest } from '../status/control-socket.js';
import type { DeviceStatus } from '../status/device-status.js';
import { formatAllStatistics, formatDevices } from '../status/device-table.js';
import { checkMachine, formatFindings } from './check.js';

/** `xen-blockd check`; `ended` gets the exit code. */
export function addCheck(program: Command, ended: (code: number) => void): void {
  program
    .command('check')
    .description('tell what this machine has of what the daemon needs; exit code 69 if something is missing')
    .option('--json', 'print JSON')
    .action(async ({ json }: { json?: boolean }) => {
      const findings = await checkMachine();
      process.stdout.write(json ? `${JSON.stringify(findings, null, 2)}\n` : formatFindings(findings));
      ended(findings.some(({ needed, ok }) => needed && !ok) ? ExitCode.unavailable : ExitCode.ok);
    });
}

/** `xen-blockd list`, `stats` and `refresh`, which ask a running daemon. */
export function addQueries(program: Command): void {
  const query = (name: string, description: string, request: ControlRequest, format: (s: DeviceStatus[]) => string) =>
    program
      .command(name)
      .description(description)
      .option('--socket <path>', "the daemon's control socket", '/run/xen-blockd/control')
      .option('--json', 'print JSON')
      .action(async ({ socket, json }: { socket: string; json?: boolean }) => {
        const devices = await askDaemon(socket, request);
        process.stdout.write(json ? `${JSON.stringify(devices, null, 2)}\n` : format([...devices]));
      });
  query('list', 'list the disks that the daemon serves', { command: 'list' }, formatDevices);
  query('stats', "print the disks' counters", { command: 'list' }, formatAllStatistics);
  query('refresh', 'look at the size of every image again, and tell the guests', { command: 'refresh' }, formatDevices);
}
