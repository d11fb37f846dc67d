/**
 * What libxl expects of a guest's QEMU, for guests whose disks are xen-blockd's: a process that lives as long as the guest,
 * says in xenstore that it runs, and answers QMP. It serves nothing: the daemon has the disks of type qdisk. In come
 * libxl's words and its QMP; questions about disks are passed on to the daemon.
 */
import { once } from 'node:events';
import { QmpClient, type QmpCommand, QmpServer, qmpCommand } from '@xenpv/qmp';
import type { XenstoreClient } from '@xenpv/xenstore';
import type { Logger } from 'pino';
import { Cleanup } from '../cleanup.js';
import { qmpVersion } from '../control/qemu-version.js';
import { listenPrivately } from '../unix-socket.js';
import type { DeviceModelArguments } from './arguments.js';
import { WatchedAnswer } from './watched.js';

export interface DeviceModelOptions extends DeviceModelArguments {
  /** Of dom0. */
  readonly store: XenstoreClient;
  /** The daemon's control socket. */
  readonly control: string;
  readonly logger: Logger;
  /** Aborted when it is to end. */
  readonly ending: AbortSignal;
}

/** The daemon may be away for the moment of an upgrade. */
const ANSWER_MS = 2000;

/** Lives until it is told to end, or asked to quit. Errors: ERR_SOCKET; those of xenstored. */
export async function runDeviceModel(options: DeviceModelOptions): Promise<void> {
  const { domid, sockets, store, logger, ending } = options;
  const cleanup = new Cleanup();
  const quit = new AbortController();
  const end = () => quit.abort();
  ending.addEventListener('abort', end);
  if (ending.aborted) end();
  try {
    const disks = disksOf(options);
    for (const answer of Object.values(disks)) cleanup.use(answer);
    const commands = commandsOf(disks, end);
    for (const path of sockets) {
      const server = cleanup.use(new QmpServer({ commands, version: qmpVersion(', no QEMU') }));
      await listenPrivately(server.listener, path);
    }
    // libxl waits for it for a minute, then for QMP.
    await store.write(`/local/domain/0/device-model/${domid}/state`, 'running');
    logger.info({ domid, sockets: sockets.join(',') }, 'running; the disks are the daemon’s');
    // It may have been asked to before.
    if (!quit.signal.aborted) await once(quit.signal, 'abort');
  } finally {
    ending.removeEventListener('abort', end);
    await cleanup[Symbol.asyncDispose]();
  }
}

type Disks = Record<'query-block' | 'query-blockstats', WatchedAnswer<unknown[]>>;

function disksOf({ domid, control, logger }: DeviceModelOptions): Disks {
  /** The daemon's answer as far as it is about this guest; nothing where there is no daemon. */
  const ofGuest = async (command: keyof Disks): Promise<unknown[]> => {
    try {
      await using daemon = await QmpClient.connect(control, { answerMs: ANSWER_MS });
      const all = (await daemon.execute(command)) as readonly { device?: string; 'node-name'?: string }[];
      const isOurs = new RegExp(`^[a-z0-9]+-${domid}-\\d+$`);
      return all.filter(({ device, 'node-name': node }) => isOurs.test(device ?? node ?? ''));
    } catch (error) {
      logger.warn({ command, reason: (error as Error).message }, 'the daemon does not answer');
      return [];
    }
  };
  return {
    'query-block': new WatchedAnswer(() => ofGuest('query-block')),
    'query-blockstats': new WatchedAnswer(() => ofGuest('query-blockstats')),
  };
}

function commandsOf(disks: Disks, end: () => void): Record<string, QmpCommand> {
  const array = { array: 'any' } as const;
  return {
    /** The consoles that QEMU would have: libxl asks for their terminals after the start. */
    'query-chardev': qmpCommand({ members: {}, returns: array, run: () => [] }),
    'query-vnc': qmpCommand({ members: {}, returns: { object: { enabled: 'bool' } }, run: () => ({ enabled: false }) }),
    'query-status': qmpCommand({
      members: {},
      returns: { object: { running: 'bool', status: 'str' } },
      run: () => ({ running: true, singlestep: false, status: 'running' }),
    }),
    'query-block': qmpCommand({ members: {}, returns: array, run: () => disks['query-block'].get() }),
    'query-blockstats': qmpCommand({ members: {}, returns: array, run: () => disks['query-blockstats'].get() }),
    /** Of a guest that is saved: there is no state of ours to keep, and disks have all that they were told was written. */
    stop: qmpCommand({ members: {}, run: () => {} }),
    cont: qmpCommand({ members: {}, run: () => {} }),
    quit: qmpCommand({
      members: {},
      run: () => {
        // The answer goes out first.
        setImmediate(end);
      },
    }),
  };
}
