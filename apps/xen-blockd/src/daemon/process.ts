import { mkdir } from 'node:fs/promises';
import { sdNotify, type XenProvider } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import type { Logger } from 'pino';
import { Cleanup } from '../cleanup.js';
import { ExitCode, xenUnavailable } from '../errors.js';
import { backendOptions } from './backend-options.js';
import type { Config } from './config.js';
import { Daemon } from './daemon.js';
import { Sockets } from './sockets.js';
import { StopSignal } from './stop-signal.js';

/**
 * The life of the daemon's process. It serves until a signal comes, then answers the requests that were taken. The
 * disks stay Connected in xenstore: the next process adopts them, and the guests notice a pause only. Resolves with
 * the exit code: 69 if xenstored went away for good. Errors: ERR_XEN, ERR_SOCKET.
 *
 * The control socket is open before the first disk is served, because only one daemon may serve the disks of a domain.
 * Everything is closed in the opposite order of its opening, after a signal as after an error.
 */
export async function runDaemon(config: Config, provider: XenProvider, logger: Logger): Promise<number> {
  const cleanup = new Cleanup();
  const stop = cleanup.use(new StopSignal());
  try {
    const store = cleanup.use(await connectStore(provider, stop.signal));
    const sockets = cleanup.use(await Sockets.open(config));
    const daemon = cleanup.use(await startDaemon(config, provider, store, logger));
    cleanup.use(await sockets.answerFor(daemon, config));
    logger.info({ domid: daemon.backend.ownDomid, types: config.types.join(','), provider: provider.name }, 'ready');
    tellServiceManager('READY=1', logger);
    const ended = await Promise.race([stop.wait(), daemon.backend.closed]);
    if (ended instanceof Error) {
      logger.fatal({ reason: ended.message }, 'xenstored went away');
      return ExitCode.unavailable;
    }
    logger.info({ signal: stop.received }, 'stopping; disks stay connected for the next process');
    tellServiceManager('STOPPING=1', logger);
    return ExitCode.ok;
  } catch (error) {
    if (error !== stop.received) throw error;
    return ExitCode.ok;
  } finally {
    await cleanup[Symbol.asyncDispose]();
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

async function startDaemon(config: Config, provider: XenProvider, store: XenstoreClient, logger: Logger) {
  const journals = config['journal-directory'];
  // /run is empty after a boot. A failure shows when a journal is made.
  if (journals) await mkdir(journals, { recursive: true, mode: 0o700 }).catch(() => undefined);
  try {
    return await Daemon.start({
      provider,
      store,
      logger,
      types: config.types,
      directories: config['image-directories'],
      engine: config.engine,
      direct: config.direct,
      nbdDirectory: config['nbd-directory'] || undefined,
      helperDirectory: config['helper-directory'],
      backend: backendOptions(config),
    });
  } catch (error) {
    throw xenUnavailable('start backend', error);
  }
}

/** A service manager that cannot be reached has its own timeout; serving goes on. */
function tellServiceManager(state: string, logger: Logger): void {
  try {
    sdNotify(state);
  } catch (error) {
    logger.warn({ reason: (error as Error).message }, 'the service manager cannot be told');
  }
}
