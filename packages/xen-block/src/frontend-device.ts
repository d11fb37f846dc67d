import {
  ABIS,
  type Abi,
  BlkifOp,
  DISCARD_SECURE,
  MAX_SEGMENTS,
  parseVdev,
  SECTOR_SIZE,
  SECTORS_PER_PAGE,
} from '@xenpv/blkif';
import { type EventChannels, type GrantAllocator, XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import { parseState, XenbusState } from '@xenpv/xenbus';
import type { Watch } from '@xenpv/xenstore';
import { BlkfrontError } from './frontend-errors.js';
import {
  announce,
  type BlkfrontFeatures,
  type BlkfrontGeometry,
  closeConnection,
  type FrontendPaths,
  findBackend,
  type MadeRing,
  makeRing,
  reachConnected,
  reachInitWait,
  readFeatures,
  readGeometry,
  readTransportLimits,
  setState,
} from './frontend-handshake.js';
import { type LoadOptions, type LoadResult, runLoad } from './frontend-load.js';
import type { BlkfrontOptions } from './frontend-options.js';
import { FrontendPages } from './frontend-pages.js';
import { FrontendQueue, pagesOfRequest } from './frontend-queue.js';
import { RawQueue } from './frontend-raw.js';
import { finishPiece, type Piece, startPiece, Transfer } from './frontend-transfer.js';

const DEFAULT_INDIRECT_SEGMENTS = 32;
const DEFAULT_RING_PAGE_ORDER = 4;
const DEFAULT_POOL_PAGES = 2048;
const POOL_CHUNK = 64;
/** How long close waits for a backend that does not answer. */
const CLOSE_TIMEOUT_MS = 5000;

/** How a write is to be ordered: `flush` flushes what was written before it, `barrier` also holds back what follows. */
export type WriteMode = 'plain' | 'flush' | 'barrier';

const writeOperations = {
  plain: BlkifOp.write,
  flush: BlkifOp.flushDiskcache,
  barrier: BlkifOp.writeBarrier,
} as const satisfies Record<WriteMode, number>;

/** A queue with its pages and the pieces of transfers that are in it. */
interface Lane {
  readonly queue: FrontendQueue;
  readonly pages: FrontendPages;
  readonly pieces: (Piece | undefined)[];
  readonly raw: RawQueue;
}

/**
 * A guest's disk: the frontend of blkif, negotiating as Linux's blkfront does, with promises on top. Offsets and
 * lengths are in bytes and multiples of {@link sectorSize}. Any number of calls may be made at once; they are split
 * to what a request can carry, and wait for each other when the ring is full.
 */
export class Blkfront implements AsyncDisposable {
  readonly devid: number;
  readonly abi: Abi;
  readonly ringPageOrder: number;
  readonly features: BlkfrontFeatures;
  /** Settles when the disk is closed, whoever closed it. */
  readonly closed: Promise<void>;
  readonly #options: BlkfrontOptions;
  readonly #paths: FrontendPaths;
  readonly #resources: Resources;
  readonly #lanes: Lane[];
  readonly #backlog: Piece[] = [];
  readonly #watch: Watch;
  #geometry: BlkfrontGeometry;
  #nextLane = 0;
  #pushing = false;
  #idle: (() => void) | undefined;
  #closing: Promise<void> | undefined;
  #failure: BlkfrontError | undefined;
  #settleClosed!: () => void;

  /**
   * Connects to the backend of a disk that the toolstack attached, waiting for the backend to be there. Rejects with
   * BlkfrontError ERR_HANDSHAKE when there is no such disk or the backend refuses, VdevError for a wrong `vdev`, the
   * signal's reason when that is aborted, and what the provider and the store throw.
   */
  static async connect(options: BlkfrontOptions): Promise<Blkfront> {
    const resources = new Resources(options);
    try {
      return await negotiate(options, resources);
    } catch (error) {
      resources.release();
      throw error;
    }
  }

  /** Use {@link Blkfront.connect}. */
  constructor(parts: BlkfrontParts) {
    this.devid = parts.devid;
    this.abi = parts.abi;
    this.ringPageOrder = parts.order;
    this.features = parts.features;
    this.#options = parts.options;
    this.#paths = parts.paths;
    this.#resources = parts.resources;
    this.#geometry = parts.geometry;
    this.#watch = parts.watch;
    this.#lanes = parts.resources.rings.map((made) => this.#makeLane(made));
    this.closed = new Promise((resolve) => {
      this.#settleClosed = resolve;
    });
    parts.resources.events.listen((ports, count) => this.#onEvents(ports, count));
    void this.#follow();
  }

  /** Bytes. */
  get size(): number {
    return this.#geometry.size;
  }

  /** The unit of every transfer, in bytes. */
  get sectorSize(): number {
    return this.#geometry.sectorSize;
  }

  get physicalSectorSize(): number {
    return this.#geometry.physicalSectorSize;
  }

  /** VdiskInfo bits. */
  get info(): number {
    return this.#geometry.info;
  }

  get readOnly(): boolean {
    return this.#geometry.readOnly;
  }

  /** How many rings there are. */
  get queues(): number {
    return this.#lanes.length;
  }

  /** Segments, pages of 4 KiB, of the largest read or write request. */
  get maxSegments(): number {
    return this.#lanes[0].queue.maxSegments;
  }

  /** Requests that were sent and not answered. */
  get inFlight(): number {
    return this.#lanes.reduce((sum, lane) => sum + lane.queue.inFlight, 0);
  }

  /** Reads `length` bytes at `offset`. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const data = new Uint8Array(length);
    await this.readInto(offset, data);
    return data;
  }

  /** Reads `target.length` bytes at `offset`. */
  readInto(offset: number, target: Uint8Array): Promise<void> {
    return this.#move('read', BlkifOp.read, offset, target);
  }

  /** Writes `data` at `offset`. It is on stable storage only after a flush. The array must not change until then. */
  write(offset: number, data: Uint8Array, options: { mode?: WriteMode } = {}): Promise<void> {
    return this.#move('write', writeOperations[options.mode ?? 'plain'], offset, data);
  }

  /** Brings everything written before to stable storage. Does nothing where the backend has no cache to flush. */
  flush(): Promise<void> {
    if (this.features.flush) return this.#single('flush', BlkifOp.flushDiskcache, 0, 0, 0);
    if (this.features.barrier) return this.#single('flush', BlkifOp.writeBarrier, 0, 0, 0);
    return this.#refusal('flush') ?? Promise.resolve();
  }

  /** Tells that the contents of a range are not needed; `secure` asks for them to be unrecoverable. Any length. */
  discard(offset: number, length: number, options: { secure?: boolean } = {}): Promise<void> {
    const wrong = this.#check('discard', offset, length);
    if (wrong !== undefined) return Promise.reject(wrong);
    const flag = options.secure ? DISCARD_SECURE : 0;
    return this.#single('discard', BlkifOp.discard, offset / SECTOR_SIZE, length / SECTOR_SIZE, flag);
  }

  /** The protocol by hand on one of the queues. */
  raw(queue = 0): RawQueue {
    return this.#lanes[queue].raw;
  }

  /**
   * Keeps the rings full of requests of one kind, for measurements: no promise, object or copy per request. Nothing
   * else may be in flight meanwhile. Rejects with ERR_RANGE, ERR_ALIGNMENT, ERR_READ_ONLY for a wrong `blockSize`.
   */
  async load(options: LoadOptions): Promise<LoadResult> {
    const wrong = this.#check(options.operation, 0, options.blockSize);
    if (wrong !== undefined) throw wrong;
    const queues = this.#lanes.map((lane) => lane.queue);
    if (options.blockSize > queues[0].maxBytes) {
      throw new BlkfrontError('ERR_RANGE', 'load', `a request has at most ${queues[0].maxBytes} bytes`);
    }
    return runLoad(queues, this.#resources.events, this.size, options);
  }

  /**
   * Waits for what is in flight, closes the connection (Closing, Closed) and releases the pages. Harmless when
   * repeated. After a few seconds without an answer from the backend it goes ahead alone.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #makeLane(made: MadeRing): Lane {
    const { poolPages } = this.#options;
    const { allocator, events } = this.#resources;
    const maxSegments = Math.max(MAX_SEGMENTS, this.features.maxIndirectSegments);
    const perRequest = pagesOfRequest(maxSegments);
    const limit = Math.max(perRequest, poolPages ?? Math.min(made.ring.size * perRequest, DEFAULT_POOL_PAGES));
    const pages = new FrontendPages(allocator, this.#paths.backendDomid, limit, Math.max(POOL_CHUNK, perRequest));
    this.#resources.pools.push(pages);
    const { ring, port } = made;
    const queue = new FrontendQueue({
      ring,
      port,
      abi: this.abi,
      pages,
      events,
      maxSegments,
      handle: this.devid & 0xffff,
    });
    const pieces: (Piece | undefined)[] = new Array(ring.size).fill(undefined);
    queue.onResponse = (slot, status) => {
      const piece = pieces[slot];
      if (piece !== undefined) finishPiece(queue, slot, piece, status);
      pieces[slot] = undefined;
    };
    const words = (XEN_PAGE_SIZE << this.ringPageOrder) / 4;
    const shared = new Int32Array(made.pages.buffer, made.pages.offsets[0], words);
    return { queue, pages, pieces, raw: new RawQueue(queue, this.abi, pages, shared, () => events.notify(port)) };
  }

  #move(op: string, operation: number, offset: number, data: Uint8Array): Promise<void> {
    const wrong = this.#check(op, offset, data.length);
    if (wrong !== undefined) return Promise.reject(wrong);
    if (data.length === 0) return Promise.resolve();
    const transfer = new Transfer(op);
    const indirect = operation === BlkifOp.read || operation === BlkifOp.write;
    const limit = (indirect ? this.maxSegments : MAX_SEGMENTS) * SECTORS_PER_PAGE;
    const sectors = data.length / SECTOR_SIZE;
    const from = offset / SECTOR_SIZE;
    for (let done = 0; done < sectors; done += limit) {
      const count = Math.min(limit, sectors - done);
      this.#enqueue({
        transfer,
        operation,
        sector: from + done,
        sectors: count,
        data,
        at: done * SECTOR_SIZE,
        flag: 0,
      });
    }
    this.#pumpSoon();
    return transfer.promise;
  }

  #single(op: string, operation: number, sector: number, sectors: number, flag: number): Promise<void> {
    const refusal = this.#refusal(op);
    if (refusal !== undefined) return refusal;
    const transfer = new Transfer(op);
    this.#enqueue({ transfer, operation, sector, sectors, data: undefined, at: 0, flag });
    this.#pumpSoon();
    return transfer.promise;
  }

  #enqueue(piece: Piece): void {
    piece.transfer.add();
    this.#backlog.push(piece);
  }

  /** Calls made in one turn of the event loop go to the backend together. */
  #pumpSoon(): void {
    if (this.#pushing) return;
    this.#pushing = true;
    queueMicrotask(() => {
      this.#pushing = false;
      this.#pump();
    });
  }

  #pump(): void {
    if (this.#failure !== undefined) return this.#failAll(this.#failure);
    let started = 0;
    while (started < this.#backlog.length && this.#start(this.#backlog[started])) started++;
    if (started > 0) {
      this.#backlog.splice(0, started);
      for (const lane of this.#lanes) lane.queue.push();
    }
    if (this.inFlight === 0 && this.#backlog.length === 0) this.#idle?.();
  }

  /** On the next queue that has room. */
  #start(piece: Piece): boolean {
    for (let tried = 0; tried < this.#lanes.length; tried++) {
      const lane = this.#lanes[this.#nextLane];
      this.#nextLane = (this.#nextLane + 1) % this.#lanes.length;
      const slot = startPiece(lane.queue, piece);
      if (slot < 0) continue;
      lane.pieces[slot] = piece;
      return true;
    }
    return false;
  }

  #onEvents(ports: Uint32Array, count: number): void {
    for (const lane of this.#lanes) {
      if (ports.subarray(0, count).includes(lane.queue.port) && lane.queue.drain() < 0) {
        const why = `the backend is broken: ${lane.queue.broken}`;
        this.#failure ??= new BlkfrontError('ERR_BACKEND', 'ring', why);
      }
    }
    this.#resources.events.unmask(ports, count);
    this.#pump();
  }

  #check(op: string, offset: number, length: number): BlkfrontError | undefined {
    const unit = this.sectorSize;
    if (op !== 'read' && this.readOnly) return new BlkfrontError('ERR_READ_ONLY', op, 'the disk is read-only');
    if (!(offset >= 0 && offset + length <= this.size)) {
      return new BlkfrontError('ERR_RANGE', op, `${length} bytes at ${offset} on a disk of ${this.size}`);
    }
    if (offset % unit !== 0 || length % unit !== 0) {
      return new BlkfrontError('ERR_ALIGNMENT', op, `${length} bytes at ${offset} with sectors of ${unit}`);
    }
    return this.#unusable(op);
  }

  #unusable(op: string): BlkfrontError | undefined {
    if (this.#failure !== undefined) return this.#failure;
    return this.#closing === undefined ? undefined : new BlkfrontError('ERR_CLOSED', op, 'the disk is closed');
  }

  #refusal(op: string): Promise<never> | undefined {
    const wrong = this.#unusable(op);
    return wrong === undefined ? undefined : Promise.reject(wrong);
  }

  #failAll(error: BlkfrontError): void {
    for (const piece of this.#backlog.splice(0)) piece.transfer.settle(error);
    for (const lane of this.#lanes) {
      for (const [slot, piece] of lane.pieces.entries()) {
        piece?.transfer.settle(error);
        lane.pieces[slot] = undefined;
      }
      lane.raw.fail(error);
    }
    this.#idle?.();
  }

  /** Does what the backend's state asks for, until the disk is closed. */
  async #follow(): Promise<void> {
    try {
      for await (const _ of this.#watch) await this.#onBackendChange();
      if (this.#closing === undefined) this.#lose('xenstore is closed');
    } catch (error) {
      this.#lose(`xenstore: ${(error as Error).message}`, error);
    }
    await this.close();
  }

  async #onBackendChange(): Promise<void> {
    const { store } = this.#options;
    const state = parseState(await store.tryRead(`${this.#paths.backend}/state`));
    if (state === XenbusState.connected) return this.#resize();
    if (state === XenbusState.closed || state === XenbusState.unknown) this.#lose('the backend is gone');
    if (state >= XenbusState.closing || state === XenbusState.unknown) void this.close();
  }

  /** Requests in flight will not be answered any more. */
  #lose(why: string, cause?: unknown): void {
    if (this.#closing !== undefined && this.inFlight === 0) return;
    this.#failure ??= new BlkfrontError('ERR_CLOSED', 'ring', why, { cause });
    this.#failAll(this.#failure);
  }

  async #resize(): Promise<void> {
    const geometry = await readGeometry(this.#options.store, this.#paths);
    const changed = geometry.size !== this.#geometry.size;
    this.#geometry = geometry;
    if (changed) this.#options.onResize?.(geometry.size);
  }

  async #close(): Promise<void> {
    const signal = AbortSignal.timeout(CLOSE_TIMEOUT_MS);
    await this.#quiesce(signal);
    this.#failAll(new BlkfrontError('ERR_CLOSED', 'close', 'the disk is closed'));
    try {
      await closeConnection(this.#options.store, this.#paths, signal);
    } catch {
      // The backend does not answer, or the store is gone: there is nobody left to tell.
    }
    await this.#watch.close().catch(() => {});
    this.#resources.release();
    this.#settleClosed();
  }

  #quiesce(signal: AbortSignal): Promise<void> {
    if (this.#failure !== undefined || (this.inFlight === 0 && this.#backlog.length === 0)) return Promise.resolve();
    return new Promise((resolve) => {
      this.#idle = resolve;
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }
}

/** What belongs to a connection and must be given back, however far it came. */
class Resources {
  readonly events: EventChannels;
  readonly allocator: GrantAllocator;
  readonly rings: MadeRing[] = [];
  readonly pools: FrontendPages[] = [];

  constructor({ provider }: BlkfrontOptions) {
    this.events = provider.openEventChannels();
    this.allocator = provider.openGrantAllocator();
  }

  release(): void {
    this.events.listen(undefined);
    for (const pool of this.pools.splice(0)) pool.release();
    for (const ring of this.rings.splice(0)) this.allocator.release(ring.pages);
    this.allocator.close();
    this.events.close();
  }
}

interface BlkfrontParts {
  readonly options: BlkfrontOptions;
  readonly devid: number;
  readonly abi: Abi;
  readonly order: number;
  readonly paths: FrontendPaths;
  readonly resources: Resources;
  readonly features: BlkfrontFeatures;
  readonly geometry: BlkfrontGeometry;
  readonly watch: Watch;
}

async function negotiate(options: BlkfrontOptions, resources: Resources): Promise<Blkfront> {
  const { store, signal } = options;
  const abi = ABIS[options.abi ?? 'x86_64'];
  const devid = deviceId(options);
  const home = options.domid === undefined ? '' : `/local/domain/${options.domid}/`;
  const paths = await findBackend(store, `${home}device/vbd/${devid}`);
  const patient = options.waitForInitWait ?? true;
  if (patient) await reachInitWait(store, paths, signal);
  const limits = patient ? await readTransportLimits(store, paths) : { maxRingPageOrder: 0, maxQueues: 1 };
  const order = Math.min(options.ringPageOrder ?? DEFAULT_RING_PAGE_ORDER, limits.maxRingPageOrder);
  const queues = Math.min(options.queues ?? 1, limits.maxQueues);
  const { allocator, events, rings } = resources;
  for (let i = 0; i < queues; i++) rings.push(makeRing(allocator, events, paths.backendDomid, order, abi));
  const persistent = options.persistent ?? false;
  const protocol = options.announceProtocol === false ? undefined : abi.protocol;
  try {
    const legacyRingPages = options.legacyRingPages ?? false;
    await announce(store, paths, { rings, order, legacyRingPages, protocol, persistent });
    await reachConnected(store, paths, signal);
    const geometry = await readGeometry(store, paths);
    const maxIndirectSegments = options.maxIndirectSegments ?? DEFAULT_INDIRECT_SEGMENTS;
    const wanted = { persistent, maxIndirectSegments, sectorSize: geometry.sectorSize };
    const features = await readFeatures(store, paths, wanted);
    await setState(store, paths, XenbusState.connected);
    const watch = await store.watch(`${paths.backend}/state`);
    return new Blkfront({ options, devid, abi, order, paths, resources, features, geometry, watch });
  } catch (error) {
    await closeConnection(store, paths, AbortSignal.timeout(CLOSE_TIMEOUT_MS)).catch(() => {});
    throw error;
  }
}

function deviceId({ devid, vdev }: BlkfrontOptions): number {
  if (devid !== undefined) return devid;
  if (vdev !== undefined) return parseVdev(vdev).number;
  throw new BlkfrontError('ERR_HANDSHAKE', 'connect', 'which disk? give vdev or devid');
}
