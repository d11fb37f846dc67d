import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { sdNotify, type XenProvider } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import type { Logger } from 'pino';
import { BlockdError, ExitCode } from '../errors.js';
import { type ControlRequest, type ControlResponse, ControlServer } from '../status/control-socket.js';
import { deviceStatus } from '../status/device-status.js';
import { MetricsServer } from '../status/metrics.js';
import { Cleanup } from './cleanup.js';
import type { Config } from './config.js';
import { Daemon, type Tuning } from './daemon.js';
import { StopSignal } from './stop-signal.js';

/**
 * The daemon proper: serves until a signal comes, then answers what was taken and leaves the disks Connected in
 * xenstore, so that the next process takes them over and the guests notice nothing but a pause. Resolves with the exit
 * code: 69 when xenstored went away for good.
 */
export async function runDaemon(config: Config, provider: XenProvider, logger: Logger): Promise<number> {
  const cleanup = new Cleanup();
  const stop = cleanup.use(new StopSignal());
  try {
    const store = cleanup.use(await connectStore(provider, stop.signal));
    const running: Running = { daemon: undefined };
    // Before anything is served, because a socket in use tells of another daemon that serves the same disks.
    if (config['control-socket']) cleanup.use(await openControl(config['control-socket'], running));
    if (config['journal-directory']) await makeDirectory(config['journal-directory'], 0o700);
    const daemon = cleanup.use(await startDaemon(config, provider, store, logger));
    running.daemon = daemon;
    if (config.metrics !== undefined) {
      cleanup.use(await MetricsServer.listen(config.metrics, () => [...daemon.backend.devices].map(deviceStatus)));
    }
    logger.info({ domid: daemon.backend.ownDomid, types: config.types.join(','), provider: provider.name }, 'ready');
    tellServiceManager('READY=1', logger);
    const ended = await Promise.race([stop.wait(), store.closed]);
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
    throw new BlockdError('ERR_XEN', (error as Error).message, { cause: error });
  }
}

async function startDaemon(config: Config, provider: XenProvider, store: XenstoreClient, logger: Logger) {
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
      tuning: tuningOf(config),
    });
  } catch (error) {
    throw new BlockdError('ERR_XEN', (error as Error).message, { cause: error });
  }
}

/** What the configuration does not say is left to the backend. */
function tuningOf(config: Config): Tuning {
  const defined = <T extends object>(values: T) =>
    Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
      [K in keyof T]: NonNullable<T[K]>;
    };
  const limits = defined({
    maxQueues: config['max-queues'],
    maxRingPageOrder: config['max-ring-page-order'],
    maxIndirectSegments: config['max-indirect-segments'],
  });
  return defined({
    threads: config.threads,
    dataPath: config.transfer,
    persistentPages: config['persistent-pages'],
    pollMicroseconds: config['poll-microseconds'],
    sectorSize: config['sector-size'],
    journalDirectory: config['journal-directory'] || undefined,
    limits,
  });
}

/** What the control socket asks about. */
interface Running {
  /** Undefined while it starts. */
  daemon: Daemon | undefined;
}

/** /run is empty after a boot; a failure shows when something is to be made in the directory. */
async function makeDirectory(path: string, mode: number): Promise<void> {
  await mkdir(path, { recursive: true, mode }).catch(() => undefined);
}

async function openControl(path: string, running: Running): Promise<ControlServer> {
  await makeDirectory(dirname(path), 0o755);
  const handler = async ({ command }: ControlRequest): Promise<ControlResponse> => {
    const backend = running.daemon?.backend;
    if (command === 'refresh') await backend?.refresh();
    else if (command !== 'list') return { error: `unknown command ${JSON.stringify(command)}` };
    return { devices: [...(backend?.devices ?? [])].map(deviceStatus) };
  };
  return ControlServer.listen(path, handler);
}

/** A service manager that cannot be reached has its own timeout; serving goes on. */
function tellServiceManager(state: string, logger: Logger): void {
  try {
    sdNotify(state);
  } catch (error) {
    logger.warn({ reason: (error as Error).message }, 'the service manager cannot be told');
  }
}
