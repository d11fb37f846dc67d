import type { XenProvider } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import type { Logger } from 'pino';
import { Cleanup } from '../cleanup.js';
import { ExitCode, xenUnavailable } from '../errors.js';
import { backendOptions, imageOptions, stopMilliseconds } from './backend-options.js';
import type { Config } from './config.js';
import { Daemon, type DaemonOptions } from './daemon.js';
import { checkJournalFolder } from './journal-folder.js';
import { Reload } from './reload.js';
import { tellServiceManager } from './service-manager/notify.js';
import { Readiness } from './service-manager/readiness.js';
import { ServiceWatchdog } from './service-manager/service-watchdog.js';
import { Sockets, type SocketsOptions } from './sockets.js';
import { StopSignal } from './stop-signal.js';

/** What the process has that its configuration has not. */
export interface ProcessOptions extends SocketsOptions {
  /** Reads the configuration anew, at SIGHUP; nothing is read anew if it is not given. Error: ERR_CONFIG. */
  readonly load?: (() => Config) | undefined;
  /** Called when the disks are being taken over. */
  readonly ready?: (() => void) | undefined;
}

/** The longest that closing takes without a journal: less than systemd's unit and the stop signal's own limit. */
const CLOSE_TIMEOUT_MS = 20_000;
/** Where libxenstat looks for figures of vbd3 disks. */
const XENTOP_DIRECTORY = '/dev/shm';
/** For what is closed after the disks: sockets and the connection to xenstored. */
const AFTER_DISKS_MS = 3000;

/**
 * The life of the daemon's process. It serves until a signal comes, then answers the requests that were taken. The
 * disks stay Connected in xenstore: the next process adopts them, and the guests notice a pause only. What is not
 * answered within `stop-seconds`, or before a second signal, is left to that process by the journal. Resolves with the
 * exit code: 69 if xenstored went away for good, 1 if something could not be closed in time and there is no journal.
 * Errors: ERR_XEN, ERR_SOCKET.
 *
 * The sockets are open before the first disk is served, because only one daemon may serve the disks of a domain.
 * Everything is closed in the opposite order of its opening, after a signal as after an error.
 */
export async function runDaemon(
  config: Config,
  provider: XenProvider,
  logger: Logger,
  options: ProcessOptions = {},
): Promise<number> {
  const cleanup = new Cleanup();
  const stop = cleanup.use(new StopSignal());
  // A reload that comes before there is anything to reload does not end the process.
  const ignore = () => {};
  process.on('SIGHUP', ignore);
  cleanup.defer(() => process.off('SIGHUP', ignore));
  let code: number;
  try {
    code = await serve(config, provider, logger, { ...options, stop, cleanup });
  } catch (error) {
    await closeInTime(cleanup, config, logger, stop).catch(() => {});
    if (error !== stop.received) throw error;
    return ExitCode.ok;
  }
  const closed = await closeInTime(cleanup, config, logger, stop);
  return closed || config['journal-directory'] ? code : ExitCode.failure;
}

async function serve(
  config: Config,
  provider: XenProvider,
  logger: Logger,
  {
    stop,
    cleanup,
    load,
    linesLost,
    configuration,
    ready,
  }: ProcessOptions & { readonly stop: StopSignal; readonly cleanup: Cleanup },
): Promise<number> {
  let starting: Promise<Daemon> | undefined;
  // A start that a signal has overtaken ends when the connection does, which is closed before.
  cleanup.defer(() => starting?.then((late) => late[Symbol.asyncDispose]()).catch(() => {}));
  const store = cleanup.use(await connectStore(provider, stop.signal));
  await tellJournalFolder(config, logger);
  const sockets = cleanup.use(await Sockets.open(config, logger, { linesLost, configuration }));
  const onLine: LineListener = (...said) => sockets.noteLine(...said);
  starting = startDaemon(config, provider, { store, logger, onLine });
  const daemon = cleanup.use(await stop.orStopped(starting));
  sockets.answerFor(daemon);
  if (load) cleanup.use(reloadOf({ config, load, logger, sockets, daemon }));
  logger.info({ domid: daemon.backend.ownDomid, types: config.types.join(','), provider: provider.name }, 'ready');
  ready?.();
  using _readiness = new Readiness(daemon, logger);
  const asksThreads = config.engine !== 'sync';
  using _watchdog = new ServiceWatchdog({ backend: daemon.backend, logger, asksThreads });
  const ended = await Promise.race([stop.wait(), daemon.backend.closed]);
  if (ended instanceof Error) {
    logger.fatal({ reason: ended.message }, 'xenstored went away');
    return ExitCode.unavailable;
  }
  logger.info({ signal: stop.received }, 'stopping; disks stay connected for the next process');
  tellServiceManager('STOPPING=1', logger);
  return ExitCode.ok;
}

/** False if it took too long, or a second signal came: what is left ends with the process. */
async function closeInTime(cleanup: Cleanup, config: Config, logger: Logger, stop: StopSignal): Promise<boolean> {
  const limit = config['journal-directory'] ? stopMilliseconds(config) + AFTER_DISKS_MS : CLOSE_TIMEOUT_MS;
  let timer: NodeJS.Timeout | undefined;
  const tooLong = new Promise<false>((resolve) => {
    timer = setTimeout(() => {
      logger.error({ seconds: limit / 1000 }, 'not all could be closed; the process ends anyway');
      resolve(false);
    }, limit);
  });
  const again = stop.second().then((signal) => {
    logger.warn({ signal }, 'the second signal: nothing is waited for');
    return false;
  });
  const closed = cleanup[Symbol.asyncDispose]().then(() => true);
  closed.catch(() => {});
  try {
    return await Promise.race([closed, tooLong, again]);
  } finally {
    clearTimeout(timer);
  }
}

async function connectStore(provider: XenProvider, signal: AbortSignal): Promise<XenstoreClient> {
  try {
    const transport = await provider.connectXenstore({ signal });
    return XenstoreClient.open(transport, { reconnect: (options) => provider.connectXenstore(options) });
  } catch (error) {
    signal.throwIfAborted();
    throw xenUnavailable('connect to xenstored', error);
  }
}

/** Serving is worth more than what a killed process leaves: a folder that is of no use is told, and no more. */
async function tellJournalFolder(config: Config, logger: Logger): Promise<void> {
  const path = config['journal-directory'];
  if (!path) return;
  for (const problem of await checkJournalFolder(path)) {
    logger.warn({ path, problem }, 'journal-directory: requests in flight may be lost if this process is killed');
  }
}

type LineListener = NonNullable<DaemonOptions['onLine']>;

async function startDaemon(
  config: Config,
  provider: XenProvider,
  { store, logger, onLine }: Pick<DaemonOptions, 'store' | 'logger' | 'onLine'>,
) {
  try {
    return await Daemon.start({
      provider,
      store,
      logger,
      onLine,
      types: config.types,
      xentopDirectory: provider.name === 'native' ? XENTOP_DIRECTORY : undefined,
      backend: backendOptions(config),
      ...imageOptions(config),
    });
  } catch (error) {
    throw xenUnavailable('start backend', error);
  }
}

interface Reloadable {
  readonly config: Config;
  readonly load: () => Config;
  readonly logger: Logger;
  readonly sockets: Sockets;
  readonly daemon: Daemon;
}

function reloadOf({ config, load, logger, sockets, daemon }: Reloadable): Reload {
  let { metrics, page } = config;
  const apply = async (changed: Config) => {
    tellServiceManager(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`, logger);
    try {
      // The only step that can fail comes first.
      daemon.reconfigure(imageOptions(changed), backendOptions(changed));
      logger.level = changed['log-level'];
      if (changed.metrics !== metrics) await sockets.useMetrics(changed.metrics);
      metrics = changed.metrics;
      if (changed.page !== page) await sockets.usePage(changed.page);
      page = changed.page;
    } finally {
      tellServiceManager('READY=1', logger);
    }
  };
  return new Reload({ config, load, apply, logger });
}
