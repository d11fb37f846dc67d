import type { XenProvider } from '@xenpv/xen-sys';
import type { TreeSchema } from '@xenpv/xenstore';
import { BackendBus, type BackendBusOptions } from '../bus.js';
import type { BackendContext } from '../handler/handler.js';
import { EventRouter } from '../link/event-router.js';
import type { PvDevice } from './pv-device.js';
import { PvHandler } from './pv-handler.js';
import { PvServer } from './pv-server.js';

/** What {@link servePv} serves, and by what means. */
export interface ServePvOptions<K extends TreeSchema, C extends TreeSchema, D extends PvDevice<K, C>>
  extends Omit<BackendBusOptions, 'types' | 'createHandler'> {
  /** Xen as this domain sees it. */
  readonly provider: Pick<XenProvider, 'openEventChannels' | 'openGrantTable'>;
  /** The backend's type: what is below `backend/` in xenstore. */
  readonly type: string;
  /** The keys that a frontend writes into its directory. One that is missing or makes no sense fails its device. */
  readonly keys: K;
  /** The keys that the toolstack writes into the backend's directory; none when not given. */
  readonly config?: C | undefined;
  /** Makes the object that serves a device. It may be called again for the same device, after a failure or a close. */
  readonly device: (context: BackendContext) => D;
  /** Ends the start; later on it closes the backend as {@link PvServer.close} does. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Serves every device of a type: finds what a toolstack creates, makes an object of yours for each, reads its keys,
 * lends it the frontend's pages and event channels, and takes those back whatever happens. One event-channel handle and one
 * grant handle serve all devices.
 *
 * Rejects with the reason of `signal`, and with what the provider and {@link BackendBus.start} throw; nothing is left open
 * then.
 *
 * @example
 * ```ts
 * import { nativeProvider } from '@xenpv/xen-sys';
 * import { servePv } from '@xenpv/xenbus';
 * import { XenstoreClient } from '@xenpv/xenstore';
 *
 * await using store = await XenstoreClient.connect({ reconnect: true });
 * await using server = await servePv({
 *   provider: nativeProvider(),
 *   store,
 *   type: 'vclock',
 *   keys: { 'page-ref': { type: 'gref' }, 'event-channel': { type: 'port' } },
 *   device: () => ({
 *     connect({ keys, link }) {
 *       const page = link.map(keys['page-ref'], { writable: true });
 *       const channel = link.bind(keys['event-channel'], () => {
 *         page.writeBigUInt64LE(BigInt(Date.now())); // the guest asks for the time by an event
 *         channel.notify();
 *       });
 *     },
 *   }),
 * });
 * await server.closed;
 * ```
 */
export async function servePv<
  const K extends TreeSchema,
  const C extends TreeSchema = Record<never, never>,
  D extends PvDevice<K, C> = PvDevice<K, C>,
>(options: ServePvOptions<K, C, D>): Promise<PvServer<K, C, D>> {
  const { provider, type, keys, config = {} as C, device, signal, ...busOptions } = options;
  signal?.throwIfAborted();
  const grants = provider.openGrantTable();
  let router: EventRouter | undefined;
  const release = () => {
    router?.[Symbol.dispose]();
    grants.close();
  };
  let starting: Promise<BackendBus<PvHandler<K, C, D>>> | undefined;
  try {
    router = new EventRouter(provider.openEventChannels());
    const means = { keys, config, grants, router };
    const createHandler = (context: BackendContext) => new PvHandler<K, C, D>(device(context), context, means);
    starting = BackendBus.start({ ...busOptions, types: [type], createHandler });
    return new PvServer(await orAborted(starting, signal), release, signal);
  } catch (error) {
    // Where the start goes on, guests are let go of before the handles are.
    void closeOnceStarted(starting).then(release);
    throw error;
  }
}

/** Never rejects. */
async function closeOnceStarted(starting: Promise<AsyncDisposable> | undefined): Promise<void> {
  const bus = await starting?.catch(() => undefined);
  await bus?.[Symbol.asyncDispose]();
}

/** What `work` resolves to, unless `signal` is aborted first: then it rejects with the reason, and `work` goes on. */
async function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  let stopWaiting = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stopWaiting = () => reject(signal.reason);
    signal.addEventListener('abort', stopWaiting, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', stopWaiting);
  }
}
