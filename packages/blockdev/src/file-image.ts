import { close, constants, fstat, open } from 'node:fs';
import { promisify } from 'node:util';
import type { BlockFeatures, BlockImage, BlockQueue, SharedImage } from './block-image.js';
import type { QueueOptions } from './engine-queue.js';
import { checkFileType, openError, type StorageFacts, storageFacts, storageSize } from './file-probe.js';
import { checkGeometry } from './geometry.js';
import { attachModule } from './package-root.js';
import { type FileDescriptors, ThreadQueue } from './thread-queue.js';

/** How `openFileImage` opens a file or block device. */
export interface FileImageOptions {
  readonly readOnly?: boolean;
  /** `auto`, the default, is io_uring where it works and threads elsewhere. */
  readonly engine?: 'auto' | 'threads' | 'io_uring';
  /** Past the page cache (O_DIRECT). `auto`, the default: with io_uring, wherever the storage's alignment allows it. */
  readonly direct?: 'auto' | boolean;
  /** Bytes; a block device's own, 512 for files unless given. */
  readonly sectorSize?: number;
  /** False hides discard from users of the image. */
  readonly discard?: boolean;
}

const openFile = promisify(open);
const closeFile = promisify(close);
const statFile = promisify(fstat);

/** A raw file or block device. */
class FileImage implements BlockImage {
  readonly engine: 'threads' | 'io_uring' = 'threads';
  readonly description: string;
  readonly sectorSize: number;
  readonly physicalSectorSize: number;
  readonly readOnly: boolean;
  readonly features: BlockFeatures;
  readonly #files: FileDescriptors;
  readonly #options: FileImageOptions;
  readonly #queues = new Set<BlockQueue>();
  #size: number;
  #closing: Promise<void> | undefined;

  constructor(path: string, options: FileImageOptions, facts: StorageFacts, files: FileDescriptors) {
    this.description = path;
    this.#options = options;
    this.#files = files;
    this.#size = facts.size;
    this.readOnly = options.readOnly ?? false;
    this.sectorSize = options.sectorSize ?? facts.logicalSectorSize;
    this.physicalSectorSize = Math.max(this.sectorSize, facts.physicalSectorSize);
    this.features = {
      flush: true,
      fua: true,
      discard: false,
      secureDiscard: false,
      writeZeroes: false,
      discardGranularity: 0,
      discardAlignment: 0,
    };
  }

  get size(): number {
    return this.#size;
  }

  createQueue(options: QueueOptions): BlockQueue {
    const queue = new ThreadQueue(this, options, this.#files, undefined);
    this.#queues.add(queue);
    return queue;
  }

  async refresh(): Promise<number> {
    const size = storageSize(await statFile(this.#files.main));
    this.#size = size - (size % this.sectorSize);
    return this.#size;
  }

  share(): SharedImage {
    return { module: attachModule, data: { kind: 'file', path: this.description, options: this.#options } };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#queues].map((queue) => queue.close()));
    await closeFiles(this.#files);
  }
}

/**
 * Opens a raw image: a regular file or a block device. Rejects with a BlockDeviceError: an errno name (ENOENT, EACCES,
 * EISDIR), ERR_IMAGE_TYPE, ERR_IMAGE_EMPTY, ERR_IMAGE_UNALIGNED (not a whole number of sectors), ERR_SECTOR_SIZE, or
 * ERR_NO_IO_URING when that engine is asked for and does not work here.
 */
export async function openFileImage(path: string, options: FileImageOptions = {}): Promise<BlockImage> {
  await checkFileType(path);
  const files = await openFiles(path, options.readOnly ?? false, options.direct === true);
  try {
    const facts = storageFacts(await statFile(files.main));
    checkGeometry(facts.size, options.sectorSize ?? facts.logicalSectorSize, path);
    return new FileImage(path, options, facts, files);
  } catch (error) {
    await closeFiles(files);
    throw openError(error, 'open', path);
  }
}

async function openFiles(path: string, readOnly: boolean, direct: boolean): Promise<FileDescriptors> {
  const flags = readOnly ? constants.O_RDONLY : constants.O_RDWR;
  try {
    const buffered = await openFile(path, flags);
    const main = direct ? await openFile(path, flags | constants.O_DIRECT) : buffered;
    return { main, buffered };
  } catch (error) {
    throw openError(error, 'open', path);
  }
}

async function closeFiles({ main, buffered }: FileDescriptors): Promise<void> {
  await closeFile(main);
  if (buffered !== main) await closeFile(buffered);
}
