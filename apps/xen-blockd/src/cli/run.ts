import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { ON_ERROR } from '@xenpv/xen-block';
import { nameThread } from '@xenpv/xen-sys';
import { errorMessage } from '@xenpv/xenbus';
import { type Command, Option } from 'commander';
import type { Logger } from 'pino';
import {
  type Config,
  DATA_PATHS,
  DEFAULT_CONFIG_PATH,
  DEFAULTS,
  ENGINES,
  LOG_LEVELS,
  type LogLevel,
  loadConfig,
  type PartialConfig,
  RANGES,
  SERVED_TYPES,
  type ServedType,
} from '../daemon/config.js';
import { lockInstance } from '../daemon/instance-lock.js';
import { runDaemon } from '../daemon/process.js';
import { pauseBeforeRestart } from '../daemon/service-manager/restart-pause.js';
import { BlockdError, ExitCode } from '../errors.js';
import { createLogger, defaultLogFormat, type LogFormat } from '../log/logger.js';
import { openProvider } from '../provider/open-provider.js';
import { integer } from './option-parsers.js';

/** What commander makes of the command line. */
interface RunArguments {
  readonly config?: string;
  readonly type?: ServedType[];
  readonly logLevel?: LogLevel;
  readonly logFormat: LogFormat;
  readonly controlSocket?: string | false;
  readonly metrics?: string;
  readonly page?: string;
  readonly threads?: number;
  readonly pollMicroseconds?: number;
  readonly transfer?: PartialConfig['transfer'];
  readonly engine?: PartialConfig['engine'];
  readonly emulator?: string;
  readonly onError?: PartialConfig['on-error'];
}

/** The last lines of the log are still on their way to systemd's socket. */
const EXIT_TIMEOUT_MS = 100;

export interface RunListener {
  /** Gets the exit code. */
  ended(code: number): void;
  /** The daemon serves. */
  ready(): void;
}

/** `xen-blockd run`. */
export function addRun(program: Command, { ended, ready }: RunListener): void {
  const unless = (key: keyof typeof DEFAULTS) => `(default: ${DEFAULTS[key]})`;
  program
    .command('run')
    .description('serve the disks that the toolstack creates in this domain, until SIGTERM')
    .option('--config <file>', `configuration; ${DEFAULT_CONFIG_PATH} is read if it is there`)
    .addOption(new Option('--type <types...>', `backend types to serve ${unless('types')}`).choices(SERVED_TYPES))
    .addOption(new Option('--log-level <level>', `how much is logged ${unless('log-level')}`).choices(LOG_LEVELS))
    .addOption(
      new Option('--log-format <format>', 'how log lines look')
        .choices(['json', 'journal', 'text'])
        .default(defaultLogFormat(), 'what standard error is'),
    )
    .option('--control-socket <path>', `where list and stats ask ${unless('control-socket')}`)
    .option('--no-control-socket', 'answer neither list nor stats')
    .option('--metrics <address>', 'Prometheus metrics on a Unix socket (a path) or HOST:PORT')
    .option('--page <address>', 'a page that shows the disks, on a Unix socket or localhost:PORT')
    .option('--threads <n>', 'threads that serve rings besides the main one', integer(RANGES.threads))
    .option(
      '--poll-microseconds <n>',
      'look that long for more requests before sleeping',
      integer(RANGES['poll-microseconds']),
    )
    .addOption(new Option('--transfer <way>', 'how data gets between guests and storage').choices(DATA_PATHS))
    .addOption(new Option('--engine <name>', `storage engine ${unless('engine')}`).choices(ENGINES))
    .option('--emulator <folder>', 'serve the emulated host in this folder (see xen-blockd host), not this machine')
    .addOption(
      new Option('--on-error <policy>', `what is done when storage fails ${unless('on-error')}`).choices(ON_ERROR),
    )
    .addHelpText('after', RUN_EXAMPLES)
    .action(async (options: RunArguments) => {
      nameThread('xen-blockd');
      const load = () => loadConfig(options.config, overridesOf(options));
      const config = load();
      const { logger, sink } = createLogger(config['log-level'], options.logFormat);
      logUnexpected(logger);
      const configuration = configurationOf(options);
      const processOptions = { load: keepingTheFile(load), linesLost: () => sink.lost, configuration, ready };
      const { emulator } = options;
      const code = await pausingAfterFailure(logger, async () => {
        const provider = await openProvider(emulator);
        using _lock = lockInstance(config.types, emulator === undefined ? undefined : resolve(emulator, 'locks'));
        return await runDaemon(config, provider, logger, processOptions);
      });
      ended(code);
      // Requests that are left to the next process hold handles, and guests wait for it.
      setTimeout(() => process.exit(), EXIT_TIMEOUT_MS).unref();
    });
}

/** The file that is read, if there is one. */
function configurationOf({ config }: RunArguments): string | undefined {
  if (config !== undefined) return resolve(config);
  return existsSync(DEFAULT_CONFIG_PATH) ? DEFAULT_CONFIG_PATH : undefined;
}

/** Errors that the service manager does not try to mend by another start. */
const FINAL: readonly number[] = [ExitCode.usage, ExitCode.config];

/** The exit code that `work` resolves with. A start that failed, or Xen that went away, does not end it at once. */
async function pausingAfterFailure(logger: Logger, work: () => Promise<number>): Promise<number> {
  try {
    const code = await work();
    if (code === ExitCode.unavailable) await pauseBeforeRestart(logger);
    return code;
  } catch (error) {
    if (!(error instanceof BlockdError && FINAL.includes(error.exitCode))) await pauseBeforeRestart(logger);
    throw error;
  }
}

/** A default file that was there and is not there any more means no defaults: an editor may be replacing it. */
function keepingTheFile(load: () => Config): () => Config {
  const wasThere = existsSync(DEFAULT_CONFIG_PATH);
  return () => {
    if (wasThere && !existsSync(DEFAULT_CONFIG_PATH)) {
      const message = `configuration ${DEFAULT_CONFIG_PATH}: it is gone; an empty file means defaults`;
      throw new BlockdError('ERR_CONFIG', 'read configuration', message, { path: DEFAULT_CONFIG_PATH });
    }
    return load();
  };
}

/** What Node would write to standard error, and might wait for, goes to the log. */
function logUnexpected(logger: Logger): void {
  process.removeAllListeners('warning');
  process.on('warning', ({ name, message }) => logger.warn({ name }, message));
  process.on('uncaughtException', (error) => {
    logger.fatal({ stack: error?.stack }, `unexpected: ${errorMessage(error)}; the next process takes the disks over`);
    process.exit(ExitCode.failure);
  });
}

function overridesOf(options: RunArguments): PartialConfig {
  return {
    types: options.type,
    'log-level': options.logLevel,
    'control-socket': options.controlSocket,
    metrics: options.metrics,
    page: options.page,
    threads: options.threads,
    'poll-microseconds': options.pollMicroseconds,
    transfer: options.transfer,
    engine: options.engine,
    'on-error': options.onError,
    ...(options.emulator === undefined ? {} : emulatorPaths(options)),
  };
}

/** A daemon of an emulated host has nothing in common with one of this machine. */
function emulatorPaths({ emulator = '', controlSocket }: RunArguments): PartialConfig {
  return {
    'control-socket': controlSocket ?? resolve(emulator, 'xen-blockd.sock'),
    'journal-directory': resolve(emulator, 'journal'),
    'helper-directory': resolve(emulator, 'helpers'),
  };
}

const RUN_EXAMPLES = `
Examples:
  xen-blockd run                                  a storage driver domain: backendtype=qdisk
  xen-blockd run --type vbd3                      dom0: backendtype=tap,script=block-xen-blockd
  xen-blockd run --type vbd --log-level debug     dom0: backendtype=phy,script=block-xen-blockd
  xen-blockd run --metrics localhost:9105         counters for Prometheus
  xen-blockd run --page localhost:9106            disks for a browser, on this machine only
  xen-blockd run --emulator /dev/shm/xen          without Xen: see xen-blockd host --help

With --emulator journal, locks and the control socket are in the folder too.

SIGTERM answers the requests that were taken and leaves the disks connected for the next process; SIGHUP reads the
configuration anew. Exit codes: 2 usage, 69 Xen or xenstored is not there (worth another try), 75 another daemon serves
this domain, 78 the configuration is wrong, 1 anything else.`;
