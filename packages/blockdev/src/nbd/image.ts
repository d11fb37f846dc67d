import { setTimeout as sleep } from 'node:timers/promises';
import { NBD_MAX_REQUEST, NbdCommand, NbdCommandFlag, NbdError, type NbdExport, NbdFlag } from '@xenpv/nbd';
import { untilAborted } from '@xenpv/xen-sys';
import {
  type BlockFeatures,
  type BlockImage,
  BlockOp,
  type BlockQueue,
  IOV_WORDS,
  type RefreshOptions,
  type SharedImage,
} from '../block-image.js';
import { reportDropped, reportUnkept } from '../diagnostics.js';
import { BlockDeviceError, errnoNameOf, openError } from '../errors.js';
import { wholeSectors } from '../geometry.js';
import { attachModule } from '../package-root.js';
import { allocateMemory } from '../queue/buffer.js';
import type { QueueOptions } from '../queue/engine-queue.js';
import { exactResult } from '../queue/exact-result.js';
import { LocalQueue } from '../queue/local-queue.js';
import { OpenQueues } from '../queue/open-queues.js';
import { absolute, addressText, exportUri, type NbdAddress } from './address.js';
import { NbdConnection } from './connection.js';
import { ExportExtents } from './extents.js';
import { type SharedLog, UnflushedLog, type UnflushedOptions } from './unflushed/log.js';
import type { RefusedWrites } from './unflushed/resending.js';

/** How `openNbdImage` opens an export. */
export interface NbdImageOptions {
  /** The server's default export unless given. */
  readonly exportName?: string | undefined;
  /**
   * True: operations that would change the image end with EROFS. False unless given, which fails with EROFS for a
   * read-only export.
   */
  readonly readOnly?: boolean | undefined;
  /** Bytes; the server's smallest block, at least 512, unless given. */
  readonly sectorSize?: number | undefined;
  /**
   * Milliseconds for which operations wait when the server has gone away, or does not answer; for as long as it takes
   * unless given.
   */
  readonly reconnect?: number | undefined;
  /**
   * Milliseconds after which a server that has not answered an operation is as one that has gone away: the connection is
   * made anew and the operation sent again. Half of `reconnect`, but at least 5 s, unless given. A server that is only
   * slow may then do it twice, the first time later than operations that came after it.
   */
  readonly silence?: number | undefined;
  /** Milliseconds that a server has for saying what it exports; 10 s unless given. */
  readonly negotiation?: number | undefined;
}

/** Besides, for who opens it first. */
export interface OpenNbdImageOptions extends NbdImageOptions {
  /** Where writes are kept that the server has not flushed, so that it may forget them. */
  readonly unflushed?: UnflushedOptions | undefined;
  /** Ends the first try to connect: opening rejects with its reason. Of no effect later. */
  readonly signal?: AbortSignal | undefined;
}

const NEGOTIATION_MS = 10_000;
const SILENCE_LEAST_MS = 5000;
/** Requests in flight of one operation that takes more than one. */
const PARTS_AT_ONCE = 16;
/** For a server that is away when another thread is to be connected. */
const ATTACH_MS = 30_000;
/** For an export that a resize has ended to be there again. */
const RENEWAL_MS = 2000;
/** Between two tries. */
const RETRY_PAUSE_MS = 50;
const AWAY: readonly string[] = ['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE'];
/** For the last flush. */
const SETTLE_MS = 5000;

const COMMANDS: Record<BlockOp, number> = {
  [BlockOp.read]: NbdCommand.read,
  [BlockOp.write]: NbdCommand.write,
  [BlockOp.writeFua]: NbdCommand.write,
  [BlockOp.flush]: NbdCommand.flush,
  [BlockOp.discard]: NbdCommand.trim,
  [BlockOp.secureDiscard]: NbdCommand.trim,
  [BlockOp.writeZeroes]: NbdCommand.writeZeroes,
};

/** What `openNbdImage` has found and opened. */
interface OpenedExport {
  readonly address: NbdAddress;
  readonly options: NbdImageOptions;
  /** The image's from now on: it closes it. */
  readonly connection: NbdConnection;
  readonly found: NbdExport;
  /** Bytes of its whole sectors. */
  readonly size: number;
  readonly sectorSize: number;
  readonly log: KeptLog;
}

/** A disk behind an NBD server, such as qemu-storage-daemon with an image of any format. */
class NbdImage implements BlockImage {
  readonly engine = 'nbd';
  readonly description: string;
  readonly identity: string;
  readonly sectorSize: number;
  readonly physicalSectorSize: number;
  readonly readOnly: boolean;
  readonly features: BlockFeatures;
  /** Bytes that one request moves. */
  readonly transferBytes: number;
  readonly connection: NbdConnection;
  readonly #address: NbdAddress;
  readonly #options: NbdImageOptions;
  readonly #shareable: boolean;
  readonly #extents: ExportExtents | undefined;
  /** Of the request that waits for the server to be up to date. */
  #looking: BlockQueue | undefined;
  readonly #queues = new OpenQueues();
  readonly #log: KeptLog;
  #size: number;
  #refreshing: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor({ address, options, connection, found, size, sectorSize, log }: OpenedExport) {
    this.#address = address;
    this.#options = options;
    this.#log = log;
    this.connection = connection;
    this.description = exportUri(address, options.exportName ?? '');
    this.identity = this.description;
    this.sectorSize = sectorSize;
    this.#size = size;
    // A server may prefer any number.
    const preferred = 2 ** Math.floor(Math.log2(found.preferredBlock));
    this.physicalSectorSize = Math.max(sectorSize, Math.min(preferred, 4096));
    this.readOnly = options.readOnly ?? false;
    const most = Math.min(found.maximumBlock, NBD_MAX_REQUEST);
    this.transferBytes = most - (most % sectorSize);
    this.features = nbdFeatures(found, this);
    this.#shareable = (found.flags & NbdFlag.canMultiConn) !== 0 || this.readOnly;
    const isPlain = typeof address === 'string' || !address.tls;
    const { exportName = '' } = options;
    // Where one connection need not know of what was written on another, it cannot tell of that.
    if (this.#shareable && isPlain)
      this.#extents = new ExportExtents({ address, exportName, upToDate: () => this.#readOne() });
  }

  get size(): number {
    return this.#size;
  }

  createQueue(options: QueueOptions): BlockQueue {
    return this.#queues.add(new NbdQueue(this, options));
  }

  /** Asks on a connection of its own: nothing on one tells that its export has grown. */
  refresh({ mayShrink = false, signal }: RefreshOptions = {}): Promise<number> {
    const refreshed = this.#refreshing.then(() => this.#refresh(mayShrink, signal));
    this.#refreshing = refreshed.catch(() => {});
    return untilAborted(refreshed, signal);
  }

  async #refresh(mayShrink: boolean, signal: AbortSignal | undefined): Promise<number> {
    signal?.throwIfAborted();
    const bytes = await exportBytes(this.#address, this.#options);
    signal?.throwIfAborted();
    const size = wholeSectors(bytes, this.sectorSize, this.description);
    const isWanted = size > this.#size || (size < this.#size && mayShrink);
    if (isWanted && !this.#closing) {
      // Nothing reaches for what is cut off while it goes.
      this.#size = Math.min(this.#size, size);
      await this.connection.resized(bytes, this.#options.negotiation ?? NEGOTIATION_MS);
      this.#size = size;
    }
    return size;
  }

  settle(ms: number): Promise<boolean> {
    return this.connection.settled(ms);
  }

  get extents(): BlockImage['extents'] {
    const extents = this.#extents;
    return extents && ((offset, length) => extents.find(offset, length, this.sectorSize));
  }

  /** Undefined where a flush on one connection does not cover the writes of another. */
  share(): SharedImage | undefined {
    if (!this.#shareable) return undefined;
    const data: SharedNbdImage = { address: absolute(this.#address), options: this.#options, log: this.#log.shared };
    return { module: attachModule(), data: { kind: 'nbd', ...data } };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /**
   * A request that comes after all that is to be sent again. It waits as others do, and there is one at a time: an older one may have
   * had its answer of a server that is gone. Error: NbdError.
   */
  async #readOne(): Promise<void> {
    if (this.#looking || this.#closing) throw away();
    const bytes = this.sectorSize;
    const queue = this.createQueue({ depth: 1, memory: allocateMemory(bytes) });
    this.#looking = queue;
    try {
      const result = await new Promise<number>((resolve) => {
        queue.onComplete((_, results) => resolve(results[0]));
        queue.push(BlockOp.read, 0, 0, bytes, Float64Array.of(0, 0, bytes), 1);
        queue.submit();
      });
      if (exactResult(bytes, result) < 0) throw away();
    } finally {
      this.#looking = undefined;
      await queue.close();
    }
  }

  async #close(): Promise<void> {
    this.#looking?.giveUp?.();
    await this.#queues.close();
    this.#extents?.close();
    if (this.#log.isFirst) await this.connection.settle(SETTLE_MS);
    this.connection.close();
    this.#log.close();
  }
}

/** The image on another thread. */
export interface SharedNbdImage {
  readonly address: NbdAddress;
  readonly options: NbdImageOptions;
  readonly log: SharedLog | undefined;
}

/** The log of an image on one thread, which is there once the export is known and can be written. */
class KeptLog {
  readonly isFirst: boolean;
  readonly #open: () => UnflushedLog;
  #log: UnflushedLog | undefined;

  constructor(open: () => UnflushedLog, whose: 'first' | 'another') {
    this.isFirst = whose === 'first';
    this.#open = open;
  }

  get shared(): SharedLog | undefined {
    return this.#log?.shared;
  }

  /** What nobody can flush, or write, is not kept. */
  openFor({ flags }: NbdExport, { readOnly }: NbdImageOptions): UnflushedLog | undefined {
    if (readOnly || (flags & NbdFlag.sendFlush) === 0) return undefined;
    this.#log = this.#open();
    return this.#log;
  }

  close(): void {
    if (this.isFirst) this.#log?.close();
    else this.#log?.detach();
  }
}

class NbdQueue extends LocalQueue {
  readonly #connection: NbdConnection;
  readonly #transferBytes: number;
  #endGivingUp: (() => void) | undefined;

  constructor(image: NbdImage, options: QueueOptions) {
    super(image, options);
    this.#connection = image.connection;
    this.#transferBytes = image.transferBytes;
  }

  override submit(): void {
    super.submit();
    this.#connection.send();
  }

  giveUp(): void {
    this.#endGivingUp ??= this.#connection.giveUp();
  }

  protected override release(): void {
    this.#endGivingUp?.();
  }

  protected override begin(op: BlockOp, at: number): void {
    const tag = this.staging.tag(at);
    const length = this.staging.length(at);
    const offset = this.staging.offset(at);
    const moved = op <= BlockOp.writeFua ? length : 0;
    const pieces = this.#pieces(at);
    // A server refuses to read past the end.
    const present = op === BlockOp.read ? zeroFrom(pieces, this.image.size - offset, length) : length;
    const nothing = op === BlockOp.flush ? !this.image.features.flush : present === 0;
    if (nothing) this.complete(tag, moved);
    else this.#request(op, offset, present, pieces, (failure) => this.complete(tag, failure || moved));
  }

  /** Sends an operation in as many requests as it needs; `done` gets 0 or a negative errno. */
  #request(op: BlockOp, offset: number, length: number, pieces: Buffer[], done: (failure: number) => void): void {
    const count = Math.max(1, Math.ceil(length / this.#transferBytes));
    const flags = op === BlockOp.writeFua ? NbdCommandFlag.fua : 0;
    let begun = 0;
    let left = count;
    let failure = 0;
    const partDone = (result: number) => {
      failure ||= result;
      if (failure < 0) {
        left -= count - begun;
        begun = count;
      }
      if (--left === 0) done(failure);
      else if (begun < count) {
        begin();
        this.#connection.send();
      }
    };
    // A discard may be of the whole disk: only some of its parts are in flight at once.
    const begin = () => {
      const from = begun++ * this.#transferBytes;
      const bytes = Math.min(this.#transferBytes, length - from);
      this.#connection.add({
        command: COMMANDS[op],
        flags,
        offset: offset + from,
        length: bytes,
        pieces: count === 1 && length === total(pieces) ? pieces : cut(pieces, from, bytes),
        done: partDone,
      });
    };
    for (let i = 0; i < Math.min(count, PARTS_AT_ONCE); i++) begin();
  }

  #pieces(at: number): Buffer[] {
    const { iov } = this.staging;
    const end = this.staging.iovEnd(at);
    const pieces: Buffer[] = [];
    for (let i = this.staging.iovStart(at); i < end; i += IOV_WORDS) {
      pieces.push(this.regions[iov[i]].subarray(iov[i + 1], iov[i + 1] + iov[i + 2]));
    }
    return pieces;
  }
}

function total(pieces: readonly Buffer[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0);
}

/** Zeroes what is behind the first `present` bytes of the pieces; returns how many of their `length` bytes are left. */
function zeroFrom(pieces: readonly Buffer[], present: number, length: number): number {
  const kept = Math.max(0, Math.min(present, length));
  if (kept < length) for (const piece of cut(pieces, kept, length - kept)) piece.fill(0);
  return kept;
}

/** `length` bytes from byte `from` of the pieces taken together. */
function cut(pieces: readonly Buffer[], from: number, length: number): Buffer[] {
  const parts: Buffer[] = [];
  for (const piece of pieces) {
    const part = piece.subarray(Math.max(0, from), Math.max(0, from + length));
    if (part.length > 0) parts.push(part);
    from -= piece.length;
  }
  return parts;
}

function nbdFeatures({ flags }: NbdExport, { sectorSize, readOnly }: NbdImage): BlockFeatures {
  const discard = !readOnly && (flags & NbdFlag.sendTrim) !== 0;
  return {
    flush: (flags & NbdFlag.sendFlush) !== 0,
    fua: (flags & NbdFlag.sendFua) !== 0,
    discard,
    secureDiscard: false,
    writeZeroes: !readOnly && (flags & NbdFlag.sendWriteZeroes) !== 0,
    discardGranularity: discard ? sectorSize : 0,
    discardAlignment: 0,
  };
}

/**
 * Opens an export of an NBD server, by the path of its Unix socket or by host and port. When the server goes away,
 * operations wait until it is back, and what it had acknowledged and not flushed is sent to it again. Rejects with a
 * BlockDeviceError: an errno name (ENOENT, ECONNREFUSED, EHOSTUNREACH), ENOTFOUND for a host that is not known, ERR_NBD for a
 * server that refuses, EROFS for one that takes no writes, ERR_IMAGE_EMPTY or ERR_IMAGE_UNALIGNED.
 */
export function openNbdImage(
  address: NbdAddress,
  { unflushed = {}, signal, ...options }: OpenNbdImageOptions = {},
): Promise<BlockImage> {
  const about = { path: unflushed.path ?? '', socket: addressText(address) };
  const open = () => {
    const { log, unusable, dropped } = UnflushedLog.open(unflushed);
    if (unusable) reportUnkept({ ...about, reason: unusable.message });
    if (dropped) reportDropped({ ...about, ...dropped });
    return log;
  };
  const onRefused = ({ bytes, errno }: RefusedWrites) =>
    reportDropped({ ...about, bytes, reason: `the server refuses them: ${errnoNameOf(errno)}` });
  return openExport({ address, options, log: new KeptLog(open, 'first'), onRefused, signal });
}

/**
 * Opens it on another thread than {@link openNbdImage} did, and waits for a server that is away, as operations do, but for
 * half a minute at most.
 */
export async function attachNbdImage({ address, options, log }: SharedNbdImage): Promise<BlockImage> {
  const open = () => {
    if (!log) throw new NbdError('ERR_PROTOCOL', 'connect', 'the export can be flushed now, and could not before');
    return UnflushedLog.attach(log);
  };
  const attach = () => openExport({ address, options, log: new KeptLog(open, 'another') });
  return tryFor(Math.min(options.reconnect ?? ATTACH_MS, ATTACH_MS), attach, isAway);
}

/** Tries again what fails in a way that may be over soon, for so many milliseconds. */
async function tryFor<T>(ms: number, attempt: () => Promise<T>, mayEnd: (error: unknown) => boolean): Promise<T> {
  const until = performance.now() + ms;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!mayEnd(error) || performance.now() > until) throw error;
      await sleep(RETRY_PAUSE_MS);
    }
  }
}

/** Whether there is no server for now, or it went while it was spoken to. */
function isAway(error: unknown): boolean {
  const { code, cause } = error as { code?: unknown; cause?: { code?: unknown } };
  return AWAY.includes(String(code)) || (code === 'ERR_NBD' && cause?.code === 'ERR_ENDED');
}

/** How many bytes an export has now. Rejects as opening it does: one that is made anew is there again soon. */
function exportBytes(address: NbdAddress, options: NbdImageOptions): Promise<number> {
  return tryFor(
    RENEWAL_MS,
    () => askForBytes(address, options),
    () => true,
  );
}

async function askForBytes(
  address: NbdAddress,
  { exportName = '', negotiation = NEGOTIATION_MS }: NbdImageOptions,
): Promise<number> {
  const never = { reconnect: 0, silence: Number.POSITIVE_INFINITY, openLog: () => undefined };
  const connection = new NbdConnection({ address, exportName, negotiation, ...never });
  try {
    return (await connection.open()).size;
  } catch (error) {
    throw unusable(error, address);
  } finally {
    connection.close();
  }
}

/** How an export is opened on one thread. */
interface ExportOpening {
  readonly address: NbdAddress;
  readonly options: NbdImageOptions;
  readonly log: KeptLog;
  readonly onRefused?: (refused: RefusedWrites) => void;
  readonly signal?: AbortSignal | undefined;
}

async function openExport({ address, options, log, onRefused, signal }: ExportOpening): Promise<BlockImage> {
  const { exportName = '', reconnect = Number.POSITIVE_INFINITY } = options;
  const openLog = (found: NbdExport) => log.openFor(found, options);
  const { negotiation = NEGOTIATION_MS, silence = Math.max(SILENCE_LEAST_MS, reconnect / 2) } = options;
  const connection = new NbdConnection({ address, exportName, reconnect, negotiation, silence, openLog, onRefused });
  try {
    const found = await connection.open(signal);
    const sectorSize = options.sectorSize ?? Math.max(512, found.minimumBlock);
    const size = wholeSectors(found.size, sectorSize, `the NBD export at ${addressText(address)}`);
    if (found.maximumBlock < sectorSize) throw takesTooLittle(found, sectorSize);
    if ((found.flags & NbdFlag.readOnly) !== 0 && !options.readOnly) throw writeProtected(addressText(address));
    return new NbdImage({ address, options, connection, found, size, sectorSize, log });
  } catch (error) {
    connection.close();
    log.close();
    signal?.throwIfAborted();
    throw unusable(error, address);
  }
}

function unusable(error: unknown, address: NbdAddress): BlockDeviceError {
  const path = addressText(address);
  if (!(error instanceof NbdError)) return openError(error, 'connect', path);
  const message = `the NBD server at ${path} cannot be used: ${error.message}`;
  return new BlockDeviceError('ERR_NBD', 'connect', message, { path, cause: error });
}

function away(): NbdError {
  return new NbdError('ERR_ENDED', 'transmit', 'the server is away');
}

function takesTooLittle({ maximumBlock }: NbdExport, sectorSize: number): NbdError {
  const message = `it takes ${maximumBlock} bytes at once, less than a sector of ${sectorSize}`;
  return new NbdError('ERR_PROTOCOL', 'negotiate', message);
}

function writeProtected(path: string): BlockDeviceError {
  return new BlockDeviceError('EROFS', 'connect', `the NBD export at ${path} is read-only: open it read-only`, {
    path,
  });
}
