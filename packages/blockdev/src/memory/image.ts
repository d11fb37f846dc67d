import type { BlockFeatures, BlockImage, BlockQueue, RefreshOptions, SharedImage } from '../block-image.js';
import { checkGeometry } from '../geometry.js';
import { attachModule } from '../package-root.js';
import type { QueueOptions } from '../queue/engine-queue.js';
import { OpenQueues } from '../queue/open-queues.js';
import { memoryFeatures } from './features.js';
import { MemoryQueue } from './queue.js';

/** What `memoryImage` makes a disk of. */
export interface MemoryImageOptions {
  /** Bytes; the length of `data` unless given. */
  readonly size?: number | undefined;
  /** The content: a SharedArrayBuffer is used as it is, other bytes are copied into one. */
  readonly data?: SharedArrayBuffer | Uint8Array | undefined;
  /** Bytes, a power of two from 512 on; 512 unless given. */
  readonly sectorSize?: number | undefined;
  /** True: operations that would change the image end with EROFS. False unless given. */
  readonly readOnly?: boolean | undefined;
}

/** Memory that is a whole number of sectors. */
export interface MemoryDisk {
  /** The content, used as it is; its length is the size of the disk. */
  readonly data: SharedArrayBuffer;
  /** Bytes, a power of two from 512 on. */
  readonly sectorSize: number;
  /** True: operations that would change the image end with EROFS. */
  readonly readOnly: boolean;
}

/** A disk in a SharedArrayBuffer. Its worker threads see the same bytes. */
export class MemoryImage implements BlockImage {
  readonly engine = 'memory';
  readonly description = 'memory';
  readonly size: number;
  readonly sectorSize: number;
  readonly physicalSectorSize: number;
  readonly readOnly: boolean;
  readonly features: BlockFeatures;
  readonly #queues = new OpenQueues();
  /** The disk's content, live. */
  readonly data: SharedArrayBuffer;

  constructor({ data, sectorSize, readOnly }: MemoryDisk) {
    this.data = data;
    this.size = data.byteLength;
    this.sectorSize = this.physicalSectorSize = sectorSize;
    this.readOnly = readOnly;
    this.features = memoryFeatures(this);
  }

  createQueue(options: QueueOptions): BlockQueue {
    return this.#queues.add(new MemoryQueue(this, this.data, options));
  }

  async refresh({ signal }: RefreshOptions = {}): Promise<number> {
    signal?.throwIfAborted();
    return this.size;
  }

  share(): SharedImage {
    const { data, sectorSize, readOnly } = this;
    return { module: attachModule(), data: { kind: 'memory', data, sectorSize, readOnly } };
  }

  close(): Promise<void> {
    return this.#queues.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Makes a disk in memory. Throws BlockDeviceError ERR_IMAGE_EMPTY, ERR_IMAGE_UNALIGNED or ERR_SECTOR_SIZE.
 *
 * @example
 * ```ts
 * import { allocateMemory, memoryImage } from '@xenpv/blockdev';
 *
 * await using image = memoryImage({ size: 1 << 20 });
 * const queue = image.createQueue({ depth: 8, memory: allocateMemory(1 << 16) });
 * console.log(image.size, image.sectorSize);
 * await queue.close();
 * ```
 */
export function memoryImage({ size, data, sectorSize = 512, readOnly = false }: MemoryImageOptions): MemoryImage {
  const bytes = size ?? data?.byteLength ?? 0;
  checkGeometry(bytes, sectorSize, 'the memory disk');
  if (data instanceof SharedArrayBuffer && data.byteLength === bytes)
    return new MemoryImage({ data, sectorSize, readOnly });
  const copy = new SharedArrayBuffer(bytes);
  if (data) new Uint8Array(copy).set((data instanceof Uint8Array ? data : new Uint8Array(data)).subarray(0, bytes));
  return new MemoryImage({ data: copy, sectorSize, readOnly });
}
