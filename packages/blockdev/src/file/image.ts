/**
 * Raw files and block devices. `openFileImage` finds out what there is (file/probe.ts), what it can do
 * (file/features.ts), and which engine serves it: io_uring of the thread, threads of each queue's own, or plain
 * calls on libuv's pool or on the calling thread. The path is looked at once (file/pinned-file.ts). An image has one or two descriptors: with O_DIRECT the second one, buffered, is never read or written.
 * Other threads have duplicates of both, so that a lock on them speaks for the I/O of all. The size is that of the last
 * look: changes past it are refused even if the file has grown since. A format is never probed: what is opened here is raw.
 */
import { close, constants, fstat, ftruncate } from 'node:fs';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { untilAborted } from '@xenpv/xen-sys';
import { optionalAddon } from '../addon.js';
import type { BlockFeatures, BlockImage, BlockQueue, RefreshOptions, SharedImage } from '../block-image.js';
import { BlockDeviceError, openError } from '../errors.js';
import { wholeSectors } from '../geometry.js';
import { DiskMark } from '../locks/disk-mark.js';
import { ImageLock } from '../locks/image-lock.js';
import { storageId } from '../locks/storage-id.js';
import { attachModule } from '../package-root.js';
import type { FileDescriptors } from '../queue/descriptors.js';
import type { QueueOptions } from '../queue/engine-queue.js';
import { OpenQueues } from '../queue/open-queues.js';
import { PageCache } from '../uring/page-cache.js';
import { RingQueue } from '../uring/queue.js';
import type { ThreadRing } from '../uring/thread-ring.js';
import { immediateCalls, pooledCalls } from './calls.js';
import { DIRECT_FLAG, directWorks } from './direct-io.js';
import { ringFor } from './engine.js';
import { FileExtents } from './extents.js';
import { fileFeatures } from './features.js';
import type { FileEngine, FileImageOptions, SharedFile } from './options.js';
import { PinnedFile } from './pinned-file.js';
import { type StorageFacts, storageFacts, storageSize } from './probe.js';
import { FileQueue, type RangeWorker } from './queue.js';

const closeFile = promisify(close);
const statFile = promisify(fstat);
const truncateFile: (fd: number, bytes: number) => Promise<void> = promisify(ftruncate);

/** What is to be an image: found and opened. */
export interface OpenedFile {
  readonly path: string;
  /** Which storage it is: StorageId's key. */
  readonly identity: string;
  readonly options: FileImageOptions;
  readonly facts: StorageFacts;
  /** Bytes of its whole sectors. */
  readonly size: number;
  /** The image's from now on: it closes them. */
  readonly files: FileDescriptors;
  /** Closes them; as descriptors that Node has opened if undefined. */
  readonly closeFiles?: ((files: FileDescriptors) => Promise<void>) | undefined;
  readonly lock?: ImageLock | undefined;
  readonly mark?: DiskMark | undefined;
  /** Of io_uring or of threads. Undefined: plain calls, on libuv's pool or on the calling thread. */
  readonly ring: ThreadRing | undefined;
}

/** A raw file or block device. */
export class FileImage implements BlockImage {
  readonly engine: FileEngine;
  readonly description: string;
  readonly identity: string;
  readonly sectorSize: number;
  readonly physicalSectorSize: number;
  readonly readOnly: boolean;
  readonly features: BlockFeatures;
  readonly #files: FileDescriptors;
  readonly #closeFiles: (files: FileDescriptors) => Promise<void>;
  readonly #lock: ImageLock | undefined;
  readonly #mark: DiskMark | undefined;
  readonly #options: FileImageOptions;
  readonly #blockDevice: boolean;
  readonly #ring: ThreadRing | undefined;
  /** Of an image that is read and written past the page cache. */
  readonly #cache: PageCache | undefined;
  /** Undefined for a block device, which has no holes, and without the addon. */
  readonly #extents: FileExtents | undefined;
  readonly #queues = new OpenQueues();
  #size: number;
  /** Bytes of the storage at the last look. */
  #seenSize: number;
  #closing: Promise<void> | undefined;

  constructor(opened: OpenedFile) {
    const { path, options, facts, size, files, ring } = opened;
    this.engine = ring?.kind ?? (options.engine === 'sync' ? 'sync' : 'threads');
    this.description = path;
    this.identity = opened.identity;
    this.#options = options;
    this.#files = files;
    this.#closeFiles = opened.closeFiles ?? closeOpened;
    this.#lock = opened.lock;
    this.#mark = opened.mark;
    this.#blockDevice = facts.blockDevice;
    this.#ring = ring;
    this.#size = size;
    this.#seenSize = facts.size;
    this.readOnly = options.readOnly ?? false;
    this.sectorSize = options.sectorSize ?? facts.logicalSectorSize;
    this.physicalSectorSize = Math.max(this.sectorSize, facts.physicalSectorSize);
    this.features = { ...fileFeatures(files.buffered, facts, options), repeatableFlush: this.direct };
    const addon = facts.blockDevice ? undefined : optionalAddon();
    if (addon) this.#extents = new FileExtents(addon, files.buffered, path);
    if (ring?.kind === 'io_uring' && this.direct && !this.readOnly)
      this.#cache = new PageCache(ring.addon, files.buffered);
  }

  get size(): number {
    return this.#size;
  }

  readonly growsUnseen = true;

  /** Whether reads and writes pass the page cache. */
  get direct(): boolean {
    return this.#files.main !== this.#files.buffered;
  }

  createQueue(options: QueueOptions): BlockQueue {
    const files = this.#files;
    const [ring, blockDevice, cache] = [this.#ring, this.#blockDevice, this.#cache];
    if (ring) return this.#queues.add(new RingQueue(this, options, { ring, files, blockDevice, cache }));
    const calls = this.engine === 'sync' ? immediateCalls : pooledCalls;
    return this.#queues.add(new FileQueue(this, options, { files, calls, rangeWorker: this.#rangeWorker() }));
  }

  async refresh({ mayShrink = false, signal }: RefreshOptions = {}): Promise<number> {
    signal?.throwIfAborted();
    // Of a server of files that is away, this waits for as long as that is.
    const seen = storageSize(await untilAborted(statFile(this.#files.buffered), signal));
    const again = seen === this.#seenSize;
    const size = again ? seen - (seen % this.sectorSize) : wholeSectors(seen, this.sectorSize, this.description);
    this.#seenSize = seen;
    if (size >= this.#size || mayShrink) this.#size = size;
    return size;
  }

  async resize(bytes: number): Promise<void> {
    const path = this.description;
    if (this.#blockDevice) {
      const advice = 'resize it where it is made, as with lvextend, and have it refreshed';
      throw new BlockDeviceError('ENOTSUP', 'resize', `${path} is a block device: ${advice}`, { path });
    }
    try {
      await truncateFile(this.#files.buffered, bytes);
    } catch (error) {
      throw openError(error, 'resize', path);
    }
  }

  get extents(): BlockImage['extents'] {
    const extents = this.#extents;
    return extents && ((offset, length) => extents.find(offset, length, this.sectorSize));
  }

  share(): SharedImage {
    // The locks are those of the descriptors, whichever threads use them.
    const options: FileImageOptions = { ...this.#options, lockFor: undefined, quietFor: undefined };
    const data: SharedFile = { path: resolve(this.description), options, files: this.#files, identity: this.identity };
    return { module: attachModule(), data: { kind: 'file', ...data } };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#lock?.closes();
    await this.#queues.close();
    await this.#cache?.close();
    await this.#extents?.close();
    this.#mark?.release();
    await this.#closeFiles(this.#files);
    await this.#lock?.release();
  }

  #rangeWorker(): RangeWorker | undefined {
    const addon = optionalAddon();
    if (!addon) return undefined;
    const { main } = this.#files;
    return (op, offset, length, done) => addon.range(op, main, this.#blockDevice, offset, length, done);
  }
}

/**
 * Opens a raw image: a regular file or a block device. Rejects with a BlockDeviceError: an errno name (ENOENT, EACCES,
 * EISDIR), ERR_IMAGE_OUTSIDE, ERR_IMAGE_TYPE, ERR_IMAGE_EMPTY, ERR_IMAGE_UNALIGNED (not one whole sector), ERR_SECTOR_SIZE,
 * ERR_NO_IO_URING when that engine is asked for and does not work here, ERR_NO_DIRECT likewise, ERR_IMAGE_IN_USE when it
 * is to be locked and another uses it, or ERR_IMAGE_IN_FLIGHT when it is to be quiet and is not in time. `signal` ends
 * the waiting.
 *
 * @example
 * ```ts
 * import { openFileImage } from '@xenpv/blockdev';
 *
 * await using image = await openFileImage(process.execPath, { readOnly: true });
 * console.log(image.engine, image.size);
 * ```
 */
export async function openFileImage(path: string, options: OpenFileOptions = {}): Promise<FileImage> {
  const pinned = await PinnedFile.open(path, options);
  return openPinnedFile(pinned, options).finally(() => pinned.close());
}

/** How an image is opened, and what gives it up. */
export type OpenFileOptions = FileImageOptions & {
  /** Ends the waits of `lockFor` and `quietFor`: opening then rejects with an AbortError. */
  readonly signal?: AbortSignal | undefined;
};

/** The same for a file that was found before, which may be closed then. */
export async function openPinnedFile(
  pinned: PinnedFile,
  { signal, ...options }: OpenFileOptions = {},
): Promise<FileImage> {
  const { path } = pinned;
  const { quietFor: disk, lockFor: user, readOnly = false } = options;
  const ring = ringFor(path, options.engine);
  const flags = readOnly ? constants.O_RDONLY : constants.O_RDWR;
  const buffered = await pinned.open(flags);
  const files = { main: buffered, buffered };
  const holds: { lock?: ImageLock | undefined; mark?: DiskMark | undefined } = {};
  try {
    const facts = storageFacts(await statFile(buffered));
    const sectorSize = options.sectorSize ?? facts.logicalSectorSize;
    files.main = (await openDirect(pinned, flags, { facts, sectorSize, options, ring })) ?? buffered;
    // Before anything is tried out on the image. The mark first: what is in flight of ended processes has their locks.
    const id = await storageId(buffered);
    if (disk !== undefined) holds.mark = await DiskMark.take({ path, disk, files, id, signal });
    if (user) holds.lock = await ImageLock.take({ path, fd: buffered, id, readOnly, user }, signal);
    // Whoever has let go of it meanwhile may have changed its size.
    const now = { ...facts, size: storageSize(await statFile(buffered)) };
    const size = wholeSectors(now.size, sectorSize, path);
    if (facts.writeProtected && !readOnly) throw writeProtected(path);
    return new FileImage({ path, options, facts: now, size, files, identity: id.key, ring, ...holds });
  } catch (error) {
    holds.mark?.release();
    await closeOpened(files);
    await holds.lock?.release();
    if (signal?.aborted) throw error;
    throw openError(error, 'open', path);
  }
}

interface DirectChoice {
  readonly facts: StorageFacts;
  readonly sectorSize: number;
  readonly options: FileImageOptions;
  readonly ring: ThreadRing | undefined;
}

/** A descriptor with O_DIRECT, or undefined. */
async function openDirect(
  pinned: PinnedFile,
  flags: number,
  { facts, sectorSize, options, ring }: DirectChoice,
): Promise<number | undefined> {
  const { direct = 'auto' } = options;
  if (direct === false || (direct === 'auto' && ring?.kind !== 'io_uring')) return undefined;
  const fd = await pinned.open(flags | DIRECT_FLAG).catch(() => undefined);
  if (fd !== undefined) {
    if (await directWorks(fd, facts, sectorSize)) return fd;
    await closeFile(fd);
  }
  if (direct === true) throw noDirect(pinned.path, sectorSize);
  return undefined;
}

function writeProtected(path: string): BlockDeviceError {
  return new BlockDeviceError('EROFS', 'open', `${path} is a write-protected device: open it read-only`, { path });
}

function noDirect(path: string, sectorSize: number): BlockDeviceError {
  const message = `${path}: O_DIRECT does not work here with sectors of ${sectorSize} bytes`;
  return new BlockDeviceError('ERR_NO_DIRECT', 'open', message, { path });
}

async function closeOpened({ main, buffered }: FileDescriptors): Promise<void> {
  for (const fd of new Set([main, buffered])) await closeFile(fd);
}
