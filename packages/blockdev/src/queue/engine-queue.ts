import { type BlockImage, BlockOp, type BlockQueue, type CompletionListener, IOV_WORDS } from '../block-image.js';
import { BlockDeviceError } from '../errors.js';
import { type ArrayMemory, ordinaryMemory } from './buffer.js';
import { Errno } from './errno.js';
import { NOTHING, Staging } from './staging.js';

/** Of operations that move data: results are 32-bit numbers of bytes. */
const MAX_TRANSFER = 2 ** 31 - 1;

/** What a queue is made with. */
export interface QueueOptions {
  /** Operations at once, 1 or more. */
  readonly depth: number;
  /** Region 0 of scatter lists; `allocateMemory` makes it as engines want it. */
  readonly memory: ArrayBufferLike;
}

/** True for operations that move data through a scatter list. */
function carriesData(op: BlockOp): boolean {
  return op <= BlockOp.writeFua;
}

/** True for operations that change the image. */
function changesImage(op: BlockOp): boolean {
  return op !== BlockOp.read && op !== BlockOp.flush;
}

/**
 * What every engine's queue does in the same way: regions, checks, staging, and completions in batches. In come
 * operations from the data plane, which may be anything that a guest has asked for. What reaches an engine through
 * `staging` has whole sectors inside of the image (reads may go past its end), a scatter list of the same length inside
 * of known regions, and an operation that the image has. All else is staged as its errno, so that a refusal too ends
 * through the listener; `push` itself never throws but on a closed queue.
 */
export abstract class EngineQueue implements BlockQueue {
  readonly depth: number;
  readonly memory: ArrayBufferLike;
  /** Called when everything is freed. */
  onClosed: (() => void) | undefined;
  protected readonly image: BlockImage;
  protected readonly staging: Staging;
  /** Bytes of each region, -1 if it was removed: asking the memory itself is slow. */
  readonly #regionBytes: number[];
  protected readonly tags: Int32Array;
  protected readonly results: Int32Array;
  protected listener: CompletionListener | undefined;
  protected delivering = false;
  #inFlight = 0;
  #closing: Promise<void> | undefined;
  #whenIdle: (() => void) | undefined;

  /** `allocate`: memory for the arrays that the engine reads and writes. */
  constructor(
    image: BlockImage,
    { depth, memory }: QueueOptions,
    allocate: (bytes: number) => ArrayMemory = ordinaryMemory,
  ) {
    if (!Number.isInteger(depth) || depth < 1) throw new RangeError(`queue depth ${depth} is not a positive integer`);
    this.image = image;
    this.depth = depth;
    this.memory = memory;
    this.staging = new Staging(depth, allocate);
    this.#regionBytes = [memory.byteLength];
    this.tags = this.staging.tags;
    this.results = this.staging.results;
  }

  get completionFd(): number {
    return -1;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  onComplete(listener: CompletionListener): void {
    this.listener = listener;
  }

  addRegion(buffer: ArrayBufferLike): number {
    const free = this.#regionBytes.indexOf(-1);
    const region = free < 0 ? this.#regionBytes.length : free;
    this.#regionBytes[region] = buffer.byteLength;
    return region;
  }

  removeRegion(region: number): void {
    if (region > 0) this.#regionBytes[region] = -1;
  }

  push(op: BlockOp, tag: number, offset: number, length: number, iov: Float64Array, iovCount: number): boolean {
    if (this.#inFlight >= this.depth) return false;
    if (this.#closing)
      throw new BlockDeviceError('ERR_QUEUE_CLOSED', 'push', `the queue of ${this.image.description} is closed`);
    this.#inFlight++;
    const failure = this.#check(op, offset, length, iov, iovCount);
    // A negative operation is refused with this result.
    if (failure !== 0) this.staging.add(failure, tag, 0, 0, iov, 0);
    else if (op === BlockOp.discard) this.#stageDiscard(tag, offset, length, iov);
    else this.staging.add(op, tag, offset, length, iov, iovCount);
    return true;
  }

  abstract submit(polled?: boolean): void;
  abstract poll(): number;

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Frees what the engine holds; nothing is in flight. */
  protected release(): void | Promise<void> {}

  /** Hands `count` completions, the first of `tags` and `results`, to the listener. */
  protected deliver(count: number): void {
    this.#inFlight -= count;
    this.delivering = true;
    try {
      this.listener?.(this.tags, this.results, count);
    } finally {
      this.delivering = false;
      if (this.#inFlight === 0) this.#whenIdle?.();
    }
  }

  async #close(): Promise<void> {
    this.submit();
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve;
      });
    }
    await this.release();
    this.onClosed?.();
  }

  /**
   * A discard is a hint: it is done for the whole granules inside it. For the others a file system would have to write
   * zeroes, and does that through its page cache.
   */
  #stageDiscard(tag: number, offset: number, length: number, iov: Float64Array): void {
    const { discardGranularity: granularity, discardAlignment: alignment } = this.image.features;
    const start = Math.ceil((offset - alignment) / granularity) * granularity + alignment;
    const end = Math.floor((offset + length - alignment) / granularity) * granularity + alignment;
    if (start < end) this.staging.add(BlockOp.discard, tag, start, end - start, iov, 0);
    else this.staging.add(NOTHING, tag, 0, 0, iov, 0);
  }

  #check(op: BlockOp, offset: number, length: number, iov: Float64Array, iovCount: number): number {
    if (op === BlockOp.flush) return 0;
    if (changesImage(op)) {
      if (this.image.readOnly) return Errno.EROFS;
      if (offset + length > this.image.size) return Errno.ENOSPC;
    }
    const { sectorSize } = this.image;
    if (
      !(offset >= 0 && length > 0 && length <= (carriesData(op) ? MAX_TRANSFER : Number.MAX_SAFE_INTEGER)) ||
      offset % sectorSize !== 0 ||
      length % sectorSize !== 0
    )
      return Errno.EINVAL;
    if (!this.#has(op)) return Errno.EOPNOTSUPP;
    return carriesData(op) ? this.#checkIov(length, iov, iovCount) : 0;
  }

  #has(op: BlockOp): boolean {
    if (op === BlockOp.read || op === BlockOp.write) return true;
    const { features } = this.image;
    if (op === BlockOp.writeFua) return features.fua;
    if (op === BlockOp.discard) return features.discard;
    if (op === BlockOp.secureDiscard) return features.secureDiscard;
    return op === BlockOp.writeZeroes && features.writeZeroes;
  }

  #checkIov(length: number, iov: Float64Array, iovCount: number): number {
    let total = 0;
    for (let at = 0; at < iovCount * IOV_WORDS; at += IOV_WORDS) {
      const bytes = this.#regionBytes[iov[at]] ?? -1;
      const inside = iov[at + 1] >= 0 && iov[at + 2] > 0 && iov[at + 1] + iov[at + 2] <= bytes;
      if (!inside) return Errno.EFAULT;
      total += iov[at + 2];
    }
    return total === length ? 0 : Errno.EINVAL;
  }
}
