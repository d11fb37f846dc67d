/**
 * Raw files and block devices. `openFileImage` finds out what there is (file/probe.ts), what it can do
 * (file/features.ts), and which engine serves it: io_uring of the thread, or plain calls on libuv's pool or on the
 * calling thread. An image has one or two descriptors: with O_DIRECT the second one, buffered, is never read or written.
 * Other threads have duplicates of both, so that a lock on them speaks for the I/O of all. The size is that of the last
 * look: changes past it are refused even if the file has grown since. A format is never probed: what is opened here is raw.
 */
import { close, constants, fstat, open } from 'node:fs';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { optionalAddon } from '../addon.js';
import type { BlockFeatures, BlockImage, BlockQueue, RefreshOptions, SharedImage } from '../block-image.js';
import { reportFallback } from '../diagnostics.js';
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
import { IoUringQueue } from '../uring/queue.js';
import { type ThreadRing, threadRing } from '../uring/thread-ring.js';
import { immediateCalls, pooledCalls } from './calls.js';
import { DIRECT_FLAG, directWorks } from './direct-io.js';
import { fileFeatures } from './features.js';
import type { FileEngine, FileImageOptions } from './options.js';
import { checkFileType, type StorageFacts, storageFacts, storageSize } from './probe.js';
import { FileQueue, type RangeWorker } from './queue.js';

const openFile = promisify(open);
const closeFile = promisify(close);
const statFile = promisify(fstat);

/** What `openFileImage` has found and opened. */
interface OpenedFile {
  readonly path: string;
  readonly options: FileImageOptions;
  readonly facts: StorageFacts;
  /** Bytes of its whole sectors. */
  readonly size: number;
  /** The image's from now on: it closes them. */
  readonly files: FileDescriptors;
  /** Which storage it is: StorageId's key. */
  readonly storage: string;
  readonly lock?: ImageLock | undefined;
  readonly mark?: DiskMark | undefined;
  /** Undefined: plain calls, on the pool or on the calling thread. */
  readonly ring: ThreadRing | undefined;
}

/** A raw file or block device. */
export class FileImage implements BlockImage {
  readonly engine: FileEngine;
  readonly description: string;
  readonly sectorSize: number;
  readonly physicalSectorSize: number;
  readonly readOnly: boolean;
  readonly features: BlockFeatures;
  readonly #files: FileDescriptors;
  readonly #storage: string;
  readonly #lock: ImageLock | undefined;
  readonly #mark: DiskMark | undefined;
  readonly #options: FileImageOptions;
  readonly #blockDevice: boolean;
  readonly #ring: ThreadRing | undefined;
  /** Of an image that is read and written past the page cache. */
  readonly #cache: PageCache | undefined;
  readonly #queues = new OpenQueues();
  #size: number;
  /** Bytes of the storage at the last look. */
  #seenSize: number;
  #closing: Promise<void> | undefined;

  constructor({ path, options, facts, size, files, storage, lock, mark, ring }: OpenedFile) {
    this.engine = ring ? 'io_uring' : options.engine === 'sync' ? 'sync' : 'threads';
    this.description = path;
    this.#options = options;
    this.#files = files;
    this.#storage = storage;
    this.#lock = lock;
    this.#mark = mark;
    this.#blockDevice = facts.blockDevice;
    this.#ring = ring;
    this.#size = size;
    this.#seenSize = facts.size;
    this.readOnly = options.readOnly ?? false;
    this.sectorSize = options.sectorSize ?? facts.logicalSectorSize;
    this.physicalSectorSize = Math.max(this.sectorSize, facts.physicalSectorSize);
    this.features = { ...fileFeatures(files.buffered, facts, options), repeatableFlush: this.direct };
    if (ring && this.direct && !this.readOnly) this.#cache = new PageCache(ring.addon, files.buffered);
  }

  get size(): number {
    return this.#size;
  }

  /** Whether reads and writes pass the page cache. */
  get direct(): boolean {
    return this.#files.main !== this.#files.buffered;
  }

  createQueue(options: QueueOptions): BlockQueue {
    const files = this.#files;
    const [ring, blockDevice, cache] = [this.#ring, this.#blockDevice, this.#cache];
    if (ring) return this.#queues.add(new IoUringQueue(this, options, { ring, files, blockDevice, cache }));
    const calls = this.engine === 'sync' ? immediateCalls : pooledCalls;
    return this.#queues.add(new FileQueue(this, options, { files, calls, rangeWorker: this.#rangeWorker() }));
  }

  async refresh({ mayShrink = false }: RefreshOptions = {}): Promise<number> {
    const seen = storageSize(await statFile(this.#files.buffered));
    const again = seen === this.#seenSize;
    const size = again ? seen - (seen % this.sectorSize) : wholeSectors(seen, this.sectorSize, this.description);
    this.#seenSize = seen;
    if (size >= this.#size || mayShrink) this.#size = size;
    return size;
  }

  share(): SharedImage {
    // The locks are those of the descriptors, whichever threads use them.
    const options: FileImageOptions = { ...this.#options, lockFor: undefined, quietFor: undefined };
    const data: SharedFile = { path: resolve(this.description), options, files: this.#files, storage: this.#storage };
    return { module: attachModule, data: { kind: 'file', ...data } };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    await this.#queues.close();
    await this.#cache?.close();
    this.#mark?.release();
    await closeFiles(this.#files);
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
 * EISDIR), ERR_IMAGE_TYPE, ERR_IMAGE_EMPTY, ERR_IMAGE_UNALIGNED (not one whole sector), ERR_SECTOR_SIZE,
 * ERR_NO_IO_URING when that engine is asked for and does not work here, ERR_NO_DIRECT likewise, ERR_IMAGE_IN_USE when it
 * is to be locked and another uses it, or ERR_IMAGE_IN_FLIGHT when it is to be quiet and is not in time. `signal` ends
 * the waiting.
 */
export async function openFileImage(
  path: string,
  { signal, ...options }: FileImageOptions & { readonly signal?: AbortSignal | undefined } = {},
): Promise<FileImage> {
  await checkFileType(path);
  const ring = ringFor(path, options.engine ?? 'auto');
  const flags = options.readOnly ? constants.O_RDONLY : constants.O_RDWR;
  const buffered = await openDescriptor(path, flags);
  const wanted = options.direct === true || ((options.direct ?? 'auto') === 'auto' && ring !== undefined);
  const direct = wanted ? await openFile(path, flags | DIRECT_FLAG).catch(() => undefined) : undefined;
  const holds: { lock?: ImageLock | undefined; mark?: DiskMark | undefined } = {};
  try {
    // Before anything is tried out on the image. What ended processes had in flight holds locks of theirs too.
    const { quietFor: disk, lockFor: user, readOnly = false } = options;
    const all = { main: direct ?? buffered, buffered };
    if (disk !== undefined) holds.mark = await DiskMark.take({ path, disk, files: all, signal });
    if (user) holds.lock = await ImageLock.take({ path, fd: buffered, readOnly, user }, signal);
    const facts = storageFacts(await statFile(buffered));
    if (facts.writeProtected && !readOnly) throw writeProtected(path);
    const opened = { path, options, facts, ring, ...holds };
    const sectorSize = options.sectorSize ?? facts.logicalSectorSize;
    const size = wholeSectors(facts.size, sectorSize, path);
    const { key: storage } = await storageId(buffered);
    if (direct !== undefined && (await directWorks(direct, facts, sectorSize))) {
      return new FileImage({ ...opened, size, storage, files: all });
    }
    if (options.direct === true) throw noDirect(path, sectorSize);
    const image = new FileImage({ ...opened, size, storage, files: { main: buffered, buffered } });
    if (direct !== undefined) await closeFile(direct);
    return image;
  } catch (error) {
    holds.mark?.release();
    await closeFiles({ main: direct ?? buffered, buffered });
    await holds.lock?.release();
    if (signal?.aborted) throw error;
    throw openError(error, 'open', path);
  }
}

/** What another thread of this process needs to have the same image. */
export interface SharedFile {
  readonly path: string;
  readonly options: FileImageOptions;
  /** The first thread's. */
  readonly files: FileDescriptors;
  /** What these are, as long as that thread's image is open. */
  readonly storage: string;
}

/**
 * The image on another thread, with duplicates of the descriptors: of what is in flight there, the locks tell too.
 * Error: ERR_IMAGE_SHARED when the image was closed in the meantime.
 */
export async function attachFileImage({ path, options, files, storage }: SharedFile): Promise<FileImage> {
  const addon = optionalAddon();
  // Without one nothing is locked either.
  if (!addon) return openFileImage(path, options);
  const buffered = addon.duplicate(files.buffered);
  const main = files.main === files.buffered ? buffered : addon.duplicate(files.main);
  const own = { main, buffered };
  try {
    await checkDuplicates(own, path, storage);
    const facts = storageFacts(await statFile(buffered));
    const size = wholeSectors(facts.size, options.sectorSize ?? facts.logicalSectorSize, path);
    return new FileImage({
      path,
      options,
      facts,
      size,
      storage,
      files: own,
      ring: ringFor(path, options.engine ?? 'auto'),
    });
  } catch (error) {
    await closeFiles(own);
    throw openError(error, 'attach', path);
  }
}

/** The numbers of closed descriptors are given to others. */
async function checkDuplicates({ main, buffered }: FileDescriptors, path: string, storage: string): Promise<void> {
  for (const fd of [main, buffered]) {
    if (fd >= 0 && (await storageId(fd)).key === storage) continue;
    const message = `${path} was closed before another thread could have it`;
    throw new BlockDeviceError('ERR_IMAGE_SHARED', 'attach', message, { path });
  }
}

/** The thread's ring, or undefined for plain calls. */
function ringFor(path: string, engine: 'auto' | FileEngine): ThreadRing | undefined {
  if (engine === 'threads' || engine === 'sync') return undefined;
  const ring = threadRing();
  if (typeof ring !== 'string') return ring;
  if (engine === 'io_uring') throw new BlockDeviceError('ERR_NO_IO_URING', 'open', `${path}: ${ring}`, { path });
  reportFallback({ path, wanted: 'io_uring', used: 'threads', reason: ring });
  return undefined;
}

async function openDescriptor(path: string, flags: number): Promise<number> {
  try {
    return await openFile(path, flags);
  } catch (error) {
    throw openError(error, 'open', path);
  }
}

function writeProtected(path: string): BlockDeviceError {
  return new BlockDeviceError('EROFS', 'open', `${path} is a write-protected device: open it read-only`, { path });
}

function noDirect(path: string, sectorSize: number): BlockDeviceError {
  const message = `${path}: O_DIRECT does not work here with sectors of ${sectorSize} bytes`;
  return new BlockDeviceError('ERR_NO_DIRECT', 'open', message, { path });
}

async function closeFiles({ main, buffered }: FileDescriptors): Promise<void> {
  for (const fd of new Set([main, buffered])) if (fd >= 0) await closeFile(fd);
}
