import { type Command, Option } from 'commander';
import {
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
import { createLogger, defaultLogFormat, type LogFormat } from '../daemon/logger.js';
import { openNativeProvider } from '../daemon/native-provider.js';
import { runDaemon } from '../daemon/process.js';
import { integer } from './option-parsers.js';

/** What commander makes of the command line. */
interface RunArguments {
  readonly config?: string;
  readonly type?: ServedType[];
  readonly logLevel?: LogLevel;
  readonly logFormat: LogFormat;
  readonly controlSocket?: string | false;
  readonly metrics?: string;
  readonly threads?: number;
  readonly pollMicroseconds?: number;
  readonly transfer?: PartialConfig['transfer'];
  readonly engine?: PartialConfig['engine'];
}

/** `xen-blockd run`; `ended` gets the exit code. */
export function addRun(program: Command, ended: (code: number) => void): void {
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
    .option('--threads <n>', 'threads that serve rings besides the main one', integer(RANGES.threads))
    .option(
      '--poll-microseconds <n>',
      'look that long for more requests before sleeping',
      integer(RANGES['poll-microseconds']),
    )
    .addOption(new Option('--transfer <way>', 'how data gets between guests and storage').choices(DATA_PATHS))
    .addOption(new Option('--engine <name>', `storage engine ${unless('engine')}`).choices(ENGINES))
    .addHelpText('after', RUN_EXAMPLES)
    .action(async (options: RunArguments) => {
      const config = loadConfig(options.config, overridesOf(options));
      const logger = createLogger(config['log-level'], options.logFormat);
      const provider = openNativeProvider();
      const lock = lockInstance(config.types);
      try {
        ended(await runDaemon(config, provider, logger));
      } finally {
        lock[Symbol.dispose]();
      }
    });
}

function overridesOf(options: RunArguments): PartialConfig {
  return {
    types: options.type,
    'log-level': options.logLevel,
    'control-socket': options.controlSocket,
    metrics: options.metrics,
    threads: options.threads,
    'poll-microseconds': options.pollMicroseconds,
    transfer: options.transfer,
    engine: options.engine,
  };
}

const RUN_EXAMPLES = `
Examples:
  xen-blockd run                                  a storage driver domain: backendtype=qdisk
  xen-blockd run --type vbd3                      dom0: backendtype=tap,script=block-xen-blockd
  xen-blockd run --type vbd --log-level debug     dom0: backendtype=phy,script=block-xen-blockd
  xen-blockd run --metrics localhost:9105         counters for Prometheus

SIGTERM answers the requests that were taken and leaves the disks connected for the next process. Exit codes: 2 usage,
69 Xen or xenstored is not there (worth another try), 75 another daemon serves this domain, 78 the configuration is wrong, 1 anything else.`;
