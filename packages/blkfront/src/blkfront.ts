import { type Abi, BlkifOp, DISCARD_SECURE, MAX_SEGMENTS, SECTOR_SIZE, SECTORS_PER_PAGE } from '@xenpv/blkif';
import { unlessAborted } from '@xenpv/xen-sys';
import { XenbusState } from '@xenpv/xenbus';
import { CLOSE_TIMEOUT_MS, type Connection, negotiate } from './connection.js';
import { BlkfrontError } from './errors.js';
import { type BlkfrontFeatures, type BlkfrontGeometry, readGeometry } from './handshake.js';
import type { BlkfrontOptions } from './options.js';
import { Call, type RequestOptions } from './rings/call.js';
import type { Lanes } from './rings/lanes.js';
import type { RawQueue } from './rings/raw.js';
import { type LoadOptions, type LoadResult, runLoad } from './tools/load.js';

/** How a write is to be ordered: `flush` flushes what was written before it, `barrier` also holds back what follows. */
export type WriteMode = 'plain' | 'flush' | 'barrier';

const writeOperations = {
  plain: BlkifOp.write,
  flush: BlkifOp.flushDiskcache,
  barrier: BlkifOp.writeBarrier,
} as const satisfies Record<WriteMode, number>;

/** The protocol by hand on a queue of a disk, which only `./testing` publishes. */
export let rawQueueOf: (disk: Blkfront, queue: number) => RawQueue;

/**
 * A guest's disk: the frontend of blkif, negotiating as Linux's blkfront does, with promises on top. Offsets and
 * lengths are in bytes and multiples of {@link sectorSize}. Any number of calls may be made at once; they are split
 * to what a request can carry, and wait for each other when the ring is full.
 *
 * @example
 * ```ts
 * import { Blkfront } from '@xenpv/blkfront';
 * import { nativeProvider } from '@xenpv/xen-sys';
 * import { XenstoreClient } from '@xenpv/xenstore';
 *
 * await using store = await XenstoreClient.connect();
 * await using disk = await Blkfront.connect({ provider: nativeProvider(), store, vdev: 'xvdb', queues: 2 });
 * const first = await disk.read(0, disk.sectorSize);
 * console.log(disk.size, disk.readOnly, first);
 * ```
 */
export class Blkfront implements AsyncDisposable {
  static {
    rawQueueOf = (disk, queue) => disk.#lanes.raw(queue);
  }

  /** The disk's number in `device/vbd/<devid>`, however the options named it. */
  readonly devid: number;
  /** The layout of requests and responses on its rings, as the options chose it. */
  readonly abi: Abi;
  /** log2 of the pages of each ring, as negotiated. */
  readonly ringPageOrder: number;
  /** What was read when the backend was Connected. It stays the same for the whole connection. */
  readonly features: BlkfrontFeatures;
  /** Settles when the disk is closed, whoever closed it. */
  readonly closed: Promise<void>;
  readonly #options: BlkfrontOptions;
  readonly #connection: Connection;
  readonly #lanes: Lanes;
  #geometry: BlkfrontGeometry;
  #closing: Promise<void> | undefined;
  #settleClosed!: () => void;

  /**
   * Connects to the backend of a disk that the toolstack attached, waiting for the backend to be there. Rejects with
   * BlkfrontError ERR_HANDSHAKE when there is no such disk or the backend refuses, VdevError for a wrong `vdev`, the
   * signal's reason when that is aborted, and what the provider and the store throw.
   */
  static async connect(options: BlkfrontOptions): Promise<Blkfront> {
    return new Blkfront(options, await negotiate(options));
  }

  private constructor(options: BlkfrontOptions, connection: Connection) {
    this.devid = connection.devid;
    this.abi = connection.abi;
    this.ringPageOrder = connection.order;
    this.features = connection.features;
    this.#options = options;
    this.#connection = connection;
    this.#lanes = connection.lanes;
    this.#geometry = connection.geometry;
    this.closed = new Promise((resolve) => {
      this.#settleClosed = resolve;
    });
    connection.resources.events.listen(connection.lanes.onEvents);
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

  /** What the storage works in, in bytes: writes of less cost it a read. */
  get physicalSectorSize(): number {
    return this.#geometry.physicalSectorSize;
  }

  /** The `info` key: bits of VdiskInfo of @xenpv/blkif. */
  get info(): number {
    return this.#geometry.info;
  }

  /** Whether writes and discards are refused here, with ERR_READ_ONLY. Flushes are not. */
  get readOnly(): boolean {
    return this.#geometry.readOnly;
  }

  /** How many rings there are. */
  get queues(): number {
    return this.#lanes.queues.length;
  }

  /** Segments, pages of 4 KiB, of the largest read or write request. */
  get maxSegments(): number {
    return this.#lanes.queues[0].maxSegments;
  }

  /** Requests that were sent and not answered. */
  get inFlight(): number {
    return this.#lanes.inFlight;
  }

  /** Reads `length` bytes at `offset`. */
  async read(offset: number, length: number, options?: RequestOptions): Promise<Uint8Array> {
    const data = new Uint8Array(length);
    await this.readInto(offset, data, options);
    return data;
  }

  /** Reads `target.length` bytes at `offset`. After an abort, what comes late may still be written into `target`. */
  readInto(offset: number, target: Uint8Array, options?: RequestOptions): Promise<void> {
    return unlessAborted(options?.signal, () => this.#move('read', BlkifOp.read, offset, target));
  }

  /**
   * Writes `data` at `offset`. It is on stable storage only after a flush. The array must not change until the call has
   * resolved. After an abort, nobody can say what was written.
   */
  write(
    offset: number,
    data: Uint8Array,
    options: RequestOptions & { readonly mode?: WriteMode | undefined } = {},
  ): Promise<void> {
    const operation = writeOperations[options.mode ?? 'plain'];
    return unlessAborted(options?.signal, () => this.#move('write', operation, offset, data));
  }

  /** Brings everything written before to stable storage. Does nothing where the backend has no cache to flush. */
  flush(options?: RequestOptions): Promise<void> {
    return unlessAborted(options?.signal, () => {
      if (this.features.flush) return this.#single('flush', BlkifOp.flushDiskcache, 0, 0, 0);
      if (this.features.barrier) return this.#single('flush', BlkifOp.writeBarrier, 0, 0, 0);
      return this.#refusal('flush') ?? Promise.resolve();
    });
  }

  /** Tells that the contents of a range are not needed; `secure` asks for them to be unrecoverable. Any length. */
  discard(
    offset: number,
    length: number,
    options: RequestOptions & { readonly secure?: boolean | undefined } = {},
  ): Promise<void> {
    const wrong = this.#check('discard', offset, length);
    if (wrong !== undefined) return Promise.reject(wrong);
    const flag = options.secure ? DISCARD_SECURE : 0;
    const from = offset / SECTOR_SIZE;
    return unlessAborted(options?.signal, () =>
      this.#single('discard', BlkifOp.discard, from, length / SECTOR_SIZE, flag),
    );
  }

  /**
   * Keeps the rings full of requests of one kind, for measurements: no promise, object or copy per request. Nothing
   * else may be in flight meanwhile. Rejects with ERR_RANGE, ERR_ALIGNMENT, ERR_READ_ONLY for a wrong `blockSize`, ERR_BACKEND
   * and ERR_CLOSED when the backend breaks the protocol or is gone, or the signal's reason.
   */
  async load(options: LoadOptions): Promise<LoadResult> {
    options.signal?.throwIfAborted();
    const wrong = this.#check(options.operation, 0, options.blockSize);
    if (wrong !== undefined) throw wrong;
    const { queues } = this.#lanes;
    if (options.blockSize > queues[0].maxBytes) {
      throw new BlkfrontError('ERR_RANGE', 'load', `a request has at most ${queues[0].maxBytes} bytes`);
    }
    if (this.#lanes.failure !== undefined) throw this.#lanes.failure;
    const failed = new AbortController();
    const signals = options.signal === undefined ? [failed.signal] : [failed.signal, options.signal];
    this.#lanes.onFail = (error) => failed.abort(error);
    try {
      const { events } = this.#connection.resources;
      return await runLoad(queues, events, this.size, { ...options, signal: AbortSignal.any(signals) });
    } catch (error) {
      if (error instanceof BlkfrontError) this.#lanes.fail((this.#lanes.failure ??= error));
      throw error;
    } finally {
      this.#lanes.onFail = undefined;
    }
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

  #move(op: string, operation: number, offset: number, data: Uint8Array): Promise<void> {
    const wrong = this.#check(op, offset, data.length);
    if (wrong !== undefined) return Promise.reject(wrong);
    if (data.length === 0) return Promise.resolve();
    const call = new Call(op);
    const indirect = operation === BlkifOp.read || operation === BlkifOp.write;
    const limit = (indirect ? this.maxSegments : MAX_SEGMENTS) * SECTORS_PER_PAGE;
    const sectors = data.length / SECTOR_SIZE;
    const from = offset / SECTOR_SIZE;
    for (let done = 0; done < sectors; done += limit) {
      const count = Math.min(limit, sectors - done);
      const at = done * SECTOR_SIZE;
      this.#lanes.enqueue({ call, operation, sector: from + done, sectors: count, data, at, flag: 0 });
    }
    return call.promise;
  }

  #single(op: string, operation: number, sector: number, sectors: number, flag: number): Promise<void> {
    const refusal = this.#refusal(op);
    if (refusal !== undefined) return refusal;
    const call = new Call(op);
    this.#lanes.enqueue({ call, operation, sector, sectors, data: undefined, at: 0, flag });
    return call.promise;
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
    if (this.#lanes.failure !== undefined) return this.#lanes.failure;
    return this.#closing === undefined ? undefined : new BlkfrontError('ERR_CLOSED', op, 'the disk is closed');
  }

  #refusal(op: string): Promise<never> | undefined {
    const wrong = this.#unusable(op);
    return wrong === undefined ? undefined : Promise.reject(wrong);
  }

  /** Does what the backend's state asks for, until the disk is closed. */
  async #follow(): Promise<void> {
    try {
      for await (const _ of this.#connection.watch) await this.#onBackendChange();
      if (this.#closing === undefined) this.#lose('xenstore is closed');
    } catch (error) {
      this.#lose(`xenstore: ${(error as Error).message}`, error);
    }
    await this.close();
  }

  async #onBackendChange(): Promise<void> {
    const state = await this.#connection.handshake.backendState();
    if (state === XenbusState.connected) return this.#resize();
    if (state === XenbusState.closed || state === XenbusState.unknown) this.#lose('the backend is gone');
    if (state >= XenbusState.closing || state === XenbusState.unknown) void this.close();
  }

  /** Requests in flight will not be answered any more. */
  #lose(why: string, cause?: unknown): void {
    if (this.#closing !== undefined && this.inFlight === 0) return;
    this.#lanes.failure ??= new BlkfrontError('ERR_CLOSED', 'ring', why, { cause });
    this.#lanes.fail(this.#lanes.failure);
  }

  async #resize(): Promise<void> {
    const geometry = await readGeometry(this.#options.store, this.#connection.handshake);
    const changed = geometry.size !== this.#geometry.size;
    this.#geometry = geometry;
    if (changed) this.#options.onResize?.(geometry.size);
  }

  async #close(): Promise<void> {
    const { handshake, watch, resources } = this.#connection;
    const signal = AbortSignal.timeout(this.#options.closeTimeoutMs ?? CLOSE_TIMEOUT_MS);
    await this.#lanes.idle(signal);
    this.#lanes.fail(new BlkfrontError('ERR_CLOSED', 'close', 'the disk is closed'));
    // When the backend does not answer or the store is gone, there is nobody left to tell.
    await handshake.close({ signal }).catch(() => {});
    await watch.close().catch(() => {});
    resources.release();
    this.#settleClosed();
  }
}
