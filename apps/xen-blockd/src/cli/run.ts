import { type Command, Option } from 'commander';
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
} from '../daemon/config.js';
import { createLogger, defaultLogFormat, type LogFormat } from '../daemon/logger.js';
import { openNativeProvider } from '../daemon/native.js';
import { runDaemon } from '../daemon/process.js';
import { integer } from './option-parsers.js';

interface RunArguments {
  readonly config?: string;
  readonly type?: BackendType[];
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
    .option('--poll-microseconds <n>', 'look that long for more requests before sleeping', integer(0, 10_000))
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
    ...(options.pollMicroseconds === undefined ? {} : { 'poll-microseconds': options.pollMicroseconds }),
    ...(options.transfer ? { transfer: options.transfer } : {}),
    ...(options.engine ? { engine: options.engine } : {}),
    ...(control === undefined ? {} : { 'control-socket': control as string | false }),
  };
}

const RUN_EXAMPLES = `
Examples:
  xen-blockd run                                  a storage driver domain: backendtype=qdisk
  xen-blockd run --type vbd3                      dom0: backendtype=tap,script=block-xen-blockd
  xen-blockd run --type vbd --log-level debug     dom0: backendtype=phy,script=block-xen-blockd
  xen-blockd run --metrics localhost:9105         counters for Prometheus

SIGTERM answers what was taken and leaves the disks connected for the next process. Exit codes: 2 usage,
69 Xen or xenstored is not there (worth another try), 78 the configuration is wrong, 1 anything else.`;
