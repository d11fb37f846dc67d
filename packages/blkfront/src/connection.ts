import { ABIS, type Abi, MAX_SEGMENTS, parseVdev } from '@xenpv/blkif';
import { type EventChannels, type GrantAllocator, XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import { FrontendHandshake, XenbusError, XenbusState } from '@xenpv/xenbus';
import type { Watch, XenstoreClient } from '@xenpv/xenstore';
import { BlkfrontError } from './errors.js';
import {
  announce,
  type BlkfrontFeatures,
  type BlkfrontGeometry,
  type MadeRing,
  makeRing,
  readFeatures,
  readGeometry,
  readTransportLimits,
} from './handshake.js';
import type { BlkfrontOptions } from './options.js';
import { Lanes } from './rings/lanes.js';
import { FrontendPages } from './rings/pages.js';
import { FrontendQueue, pagesOfRequest } from './rings/queue.js';

const DEFAULT_INDIRECT_SEGMENTS = 32;
const DEFAULT_RING_PAGE_ORDER = 4;
const DEFAULT_POOL_PAGES = 2048;
const POOL_CHUNK = 64;
/** How long to wait for a backend that does not answer when a connection is closed. */
export const CLOSE_TIMEOUT_MS = 5000;

/** A disk that is connected: what was negotiated, and what has to be given back. */
export interface Connection {
  readonly devid: number;
  readonly abi: Abi;
  readonly order: number;
  readonly handshake: FrontendHandshake;
  readonly features: BlkfrontFeatures;
  readonly geometry: BlkfrontGeometry;
  /** On the backend's state. */
  readonly watch: Watch;
  readonly resources: FrontendResources;
  readonly lanes: Lanes;
}

/** What belongs to a connection and must be given back, however far it came. */
export class FrontendResources {
  readonly events: EventChannels;
  readonly allocator: GrantAllocator;
  readonly rings: MadeRing[] = [];
  readonly pools: FrontendPages[] = [];

  constructor({ provider }: BlkfrontOptions) {
    this.events = provider.openEventChannels();
    try {
      this.allocator = provider.openGrantAllocator();
    } catch (error) {
      this.events.close();
      throw error;
    }
  }

  release(): void {
    this.events.listen(undefined);
    for (const pool of this.pools.splice(0)) pool.release();
    for (const ring of this.rings.splice(0)) this.allocator.release(ring.pages);
    this.allocator.close();
    this.events.close();
  }
}

/**
 * The whole handshake, see {@link Blkfront.connect}.
 *
 * What comes in: a disk that a toolstack attached, in whatever state an earlier kernel left it. What must hold: the
 * rings are published before Initialised, the backend's offers are read after InitWait, the disk after Connected. What
 * never happens: a page or port that is left behind when a step fails, or a key of an earlier connection that is taken
 * for one of this.
 */
export async function negotiate(options: BlkfrontOptions): Promise<Connection> {
  const resources = new FrontendResources(options);
  try {
    return await negotiateWith(options, resources);
  } catch (error) {
    resources.release();
    throw error instanceof XenbusError ? refused(error) : error;
  }
}

function refused(cause: XenbusError): BlkfrontError {
  return new BlkfrontError('ERR_HANDSHAKE', 'connect', cause.message, { path: cause.path, cause });
}

async function negotiateWith(options: BlkfrontOptions, resources: FrontendResources): Promise<Connection> {
  const { store, signal } = options;
  const abi = ABIS[options.abi ?? 'x86_64'];
  const devid = deviceId(options);
  const handshake = await FrontendHandshake.find(store, { type: 'vbd', devid, domid: options.domid }, { signal });
  const patient = options.testing?.waitForInitWait ?? true;
  if (patient) await handshake.reachInitWait({ signal });
  const limits = patient
    ? await readTransportLimits(store, handshake, { signal })
    : { maxRingPageOrder: 0, maxQueues: 1 };
  const order = Math.min(options.ringPageOrder ?? DEFAULT_RING_PAGE_ORDER, limits.maxRingPageOrder);
  const queues = Math.min(options.queues ?? 1, limits.maxQueues);
  const { allocator, events, rings } = resources;
  for (let i = 0; i < queues; i++) rings.push(makeRing(allocator, events, handshake.backendDomid, order, abi));
  try {
    const { features, geometry } = await introduce(options, handshake, rings, order, abi);
    const watch = await watchState(store, handshake, signal);
    const lanes = makeLanes(options, resources, { abi, devid, features, domid: handshake.backendDomid });
    return { devid, abi, order, handshake, features, geometry, watch, resources, lanes };
  } catch (error) {
    const closing = AbortSignal.timeout(options.closeTimeoutMs ?? CLOSE_TIMEOUT_MS);
    await handshake.close({ signal: closing }).catch(() => {});
    throw error;
  }
}

/** The signal ends the registration alone: the watch itself lives as long as the connection. */
async function watchState(
  store: XenstoreClient,
  handshake: FrontendHandshake,
  signal: AbortSignal | undefined,
): Promise<Watch> {
  const registering = new AbortController();
  const abort = () => registering.abort(signal?.reason);
  if (signal?.aborted) abort();
  signal?.addEventListener('abort', abort);
  try {
    return await store.watch(`${handshake.backendPath}/state`, { signal: registering.signal });
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

/** From Initialised to Connected. */
async function introduce(
  options: BlkfrontOptions,
  handshake: FrontendHandshake,
  rings: readonly MadeRing[],
  order: number,
  abi: Abi,
): Promise<{ features: BlkfrontFeatures; geometry: BlkfrontGeometry }> {
  const { store, signal, legacyRingPages = false, persistent = false } = options;
  const protocol = options.testing?.announceProtocol === false ? undefined : abi.protocol;
  await announce(handshake, { rings, order, legacyRingPages, protocol, persistent }, { signal });
  await handshake.reachConnected({ signal });
  const geometry = await readGeometry(store, handshake, { signal });
  const maxIndirectSegments = options.maxIndirectSegments ?? DEFAULT_INDIRECT_SEGMENTS;
  const wanted = { persistent, maxIndirectSegments, sectorSize: geometry.sectorSize };
  const features = await readFeatures(store, handshake, wanted, { signal });
  await handshake.setState(XenbusState.connected, { signal });
  return { features, geometry };
}

function makeLanes(
  options: BlkfrontOptions,
  resources: FrontendResources,
  what: { abi: Abi; devid: number; features: BlkfrontFeatures; domid: number },
): Lanes {
  const { events, allocator, pools } = resources;
  const { abi, devid, domid } = what;
  const maxSegments = Math.max(MAX_SEGMENTS, what.features.maxIndirectSegments);
  const perRequest = pagesOfRequest(maxSegments);
  const lanes = new Lanes(events);
  for (const { ring, port, pages: shared } of resources.rings) {
    const poolPages = options.poolPages ?? Math.min(ring.size * perRequest, DEFAULT_POOL_PAGES);
    const limit = Math.max(perRequest, poolPages);
    const pages = new FrontendPages(allocator, domid, limit, Math.max(POOL_CHUNK, perRequest));
    pools.push(pages);
    const queue = new FrontendQueue({ ring, port, abi, pages, events, maxSegments, handle: devid & 0xffff });
    const words = (shared.refs.length * XEN_PAGE_SIZE) / 4;
    lanes.add(queue, abi, pages, new Int32Array(shared.buffer, shared.offsets[0], words));
  }
  return lanes;
}

function deviceId({ devid, vdev }: BlkfrontOptions): number {
  if (devid !== undefined) return devid;
  if (vdev !== undefined) return parseVdev(vdev).number;
  throw new BlkfrontError('ERR_HANDSHAKE', 'connect', 'which disk? give vdev or devid');
}
