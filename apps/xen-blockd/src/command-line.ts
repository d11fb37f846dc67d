import { readFileSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import {
  BACKEND_TYPES,
  type BackendType,
  DEFAULT_CONFIG_PATH,
  ENGINES,
  LOG_LEVEL_NAMES,
  type LogLevel,
  loadConfig,
  type PartialConfig,
  TRANSFERS,
} from './config.js';
import { askDaemon, type ControlRequest } from './control-socket.js';
import { checkDemoOptions, type DemoArguments } from './demo-options.js';
import type { DeviceStatus } from './device-status.js';
import { formatAllStatistics, formatDevices } from './device-table.js';
import { BlockdError, ExitCode } from './errors.js';
import { createLogger, defaultLogFormat, type LogFormat } from './logger.js';
import { checkMachine, formatFindings } from './machine-check.js';
import { openNativeProvider } from './native.js';
import { runDaemon } from './run.js';

/** Runs `xen-blockd` with these arguments; resolves with the exit code. An error is one line on standard error. */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  const outcome = { code: ExitCode.ok as number };
  const program = makeProgram((code) => {
    outcome.code = code;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return outcome.code;
  } catch (error) {
    return reportError(error);
  }
}

/** Commander's message as one line like all the others. */
function usageLine(text: string): string {
  const message = text
    .trim()
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .replace(/\.$/, '');
  return `xen-blockd: ${message}. See xen-blockd --help.\n`;
}

function reportError(error: unknown): number {
  if (error instanceof CommanderError) {
    // Help and version end this way too; commander has printed the message.
    return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  }
  process.stderr.write(`xen-blockd: ${error instanceof Error ? error.message : String(error)}\n`);
  if (error instanceof BlockdError) return error.exitCode;
  if (process.env.XEN_BLOCKD_DEBUG) console.error(error);
  return ExitCode.failure;
}

function makeProgram(ended: (code: number) => void): Command {
  const program = new Command('xen-blockd')
    .description('Serves disk images to Xen guests over the paravirtual block protocol.')
    .version(readVersion())
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(usageLine(text)) });
  addRun(program, ended);
  addCheck(program, ended);
  addQueries(program);
  addDemo(program, ended);
  return program;
}

interface RunArguments {
  readonly config?: string;
  readonly type?: BackendType[];
  readonly logLevel?: LogLevel;
  readonly logFormat: LogFormat;
  readonly controlSocket?: string | false;
  readonly metrics?: string;
  readonly threads?: number;
  readonly transfer?: PartialConfig['transfer'];
  readonly engine?: PartialConfig['engine'];
}

function addRun(program: Command, ended: (code: number) => void): void {
  program
    .command('run')
    .description('serve the disks that the toolstack creates in this domain, until SIGTERM')
    .option('--config <file>', `configuration; ${DEFAULT_CONFIG_PATH} is read if it is there`)
    .addOption(new Option('--type <types...>', 'backend types to serve (default: qdisk)').choices(BACKEND_TYPES))
    .addOption(new Option('--log-level <level>', 'how much is logged (default: info)').choices(LOG_LEVEL_NAMES))
    .addOption(
      new Option('--log-format <format>', 'how log lines look')
        .choices(['json', 'journal', 'text'])
        .default(defaultLogFormat(), 'what standard error is'),
    )
    .option('--control-socket <path>', 'where list and stats ask (default: /run/xen-blockd/control)')
    .option('--no-control-socket', 'answer neither list nor stats')
    .option('--metrics <address>', 'Prometheus metrics on a Unix socket (a path) or HOST:PORT')
    .option('--threads <n>', 'threads that serve rings besides the main one', integer(0, 64))
    .addOption(new Option('--transfer <way>', 'how data gets between guests and storage').choices(TRANSFERS))
    .addOption(new Option('--engine <name>', 'storage engine (default: auto)').choices(ENGINES))
    .addHelpText('after', RUN_EXAMPLES)
    .action(async (options: RunArguments, command: Command) => {
      const config = loadConfig(options.config, overridesOf(options, command));
      const logger = createLogger(config['log-level'], options.logFormat);
      ended(await runDaemon(config, openNativeProvider(), logger));
    });
}

/** Only what was said on the command line goes over the file. */
function overridesOf(options: RunArguments, command: Command): PartialConfig {
  const control = command.getOptionValueSource('controlSocket') === 'cli' ? options.controlSocket : undefined;
  return {
    ...(options.type ? { types: options.type } : {}),
    ...(options.logLevel ? { 'log-level': options.logLevel } : {}),
    ...(options.metrics ? { metrics: options.metrics } : {}),
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    ...(options.transfer ? { transfer: options.transfer } : {}),
    ...(options.engine ? { engine: options.engine } : {}),
    ...(control === undefined ? {} : { 'control-socket': control as string | false }),
  };
}

function addCheck(program: Command, ended: (code: number) => void): void {
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

/** What asks a running daemon. */
function addQueries(program: Command): void {
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

const RUN_EXAMPLES = `
Examples:
  xen-blockd run                                  a storage driver domain: backendtype=qdisk
  xen-blockd run --type vbd3                      dom0: backendtype=tap,script=block-xen-blockd
  xen-blockd run --type vbd --log-level debug     dom0: backendtype=phy,script=block-xen-blockd
  xen-blockd run --metrics localhost:9105         counters for Prometheus

SIGTERM answers what was taken and leaves the disks connected for the next process. Exit codes: 2 usage,
69 Xen or xenstored is not there (worth another try), 78 the configuration is wrong, 1 anything else.`;

function addDemo(program: Command, ended: (code: number) => void): void {
  program
    .command('demo')
    .description('serve an image to a guest on an embedded Xen host: needs no hypervisor, no root')
    .argument('[image]', 'disk image; without it an ext4 file system made from the documentation')
    .addOption(new Option('--read-only', 'guests may only read (default for an IMAGE given)').conflicts('writable'))
    .option('--writable', 'guests may write to IMAGE')
    .option('--vdev <name>', "the disk's name in the guest", 'xvda')
    .addOption(
      new Option('--abi <name>', 'structure layout of the guest')
        .choices(['x86_32', 'x86_64', 'arm'])
        .default('x86_64'),
    )
    .option('--ring-page-order <n>', 'the ring has 2^n pages, n from 0 to 4', integer(0, 4), 0)
    .option('--guests <n>', 'number of guests, each on a thread of its own', integer(1, 64), 1)
    .option('--json', 'print one JSON object instead of text')
    .option('--nbd <socket>', "export the guest's disk over NBD on this Unix socket until a signal comes")
    .option('--xenstore <socket>', 'let the embedded xenstored listen on this Unix socket too')
    .addHelpText('after', DEMO_EXAMPLES)
    .action(async (image: string | undefined, options: Omit<DemoArguments, 'image'>) => {
      // The daemon itself needs no emulator.
      const { runDemo } = await import('./demo.js');
      ended(await runDemo(checkDemoOptions({ image, ...options })));
    });
}

const DEMO_EXAMPLES = `
Examples:
  xen-blockd demo debian.img                     read the whole disk in a guest, print its sha256
  xen-blockd demo debian.img --guests 8 --abi x86_32 --ring-page-order 4
  xen-blockd demo disk.img --writable --nbd /tmp/disk.sock
      then: fio --name=t --ioengine=nbd --uri=nbd+unix:///?socket=/tmp/disk.sock --rw=randrw --size=16m
  xen-blockd demo --nbd /tmp/disk.sock --xenstore /tmp/xenstored.sock
      then: XENSTORED_PATH=/tmp/xenstored.sock xenstore-ls -f`;

/** A parser of whole numbers from `minimum` to `maximum`, for commander. */
function integer(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^[0-9]+$/.test(text) && value >= minimum && value <= maximum) return value;
    throw new InvalidArgumentError(`Expected a whole number from ${minimum} to ${maximum}.`);
  };
}

function readVersion(): string {
  const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };
  return manifest.version;
}
