import { type BlockImage, BlockOp, type BlockQueue, type CompletionListener, IOV_WORDS } from '../block-image.js';
import { BlockDeviceError } from '../errors.js';
import { Errno } from './errno.js';
import { Staging } from './staging.js';

/** Results are 32-bit numbers of bytes. */
const MAX_LENGTH = 2 ** 31 - 1;

/** What a queue is made with. */
export interface QueueOptions {
  /** Operations at once, 1 or more. */
  readonly depth: number;
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

/** What every engine's queue does the same way: regions, checks, staging, and completions in batches. */
export abstract class EngineQueue implements BlockQueue {
  readonly depth: number;
  readonly memory: ArrayBufferLike;
  /** Called when everything is freed. */
  onClosed: (() => void) | undefined;
  protected readonly image: BlockImage;
  protected readonly staging: Staging;
  /** Bytes of each region, -1 where there is none: asking the memory itself is slow. */
  readonly #regionBytes: number[];
  protected readonly tags: Int32Array;
  protected readonly results: Int32Array;
  protected listener: CompletionListener | undefined;
  protected delivering = false;
  #inFlight = 0;
  #closing: Promise<void> | undefined;
  #whenIdle: (() => void) | undefined;

  constructor(image: BlockImage, { depth, memory }: QueueOptions) {
    if (!Number.isInteger(depth) || depth < 1) throw new RangeError(`queue depth ${depth} is not a positive integer`);
    this.image = image;
    this.depth = depth;
    this.memory = memory;
    this.staging = new Staging(depth);
    this.#regionBytes = [memory.byteLength];
    this.tags = new Int32Array(depth);
    this.results = new Int32Array(depth);
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
    if (failure === 0) this.staging.add(op, tag, offset, length, iov, iovCount);
    // A negative operation is one that is refused with this result.
    else this.staging.add(failure, tag, 0, 0, iov, 0);
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

  #check(op: BlockOp, offset: number, length: number, iov: Float64Array, iovCount: number): number {
    if (op === BlockOp.flush) return 0;
    if (changesImage(op)) {
      if (this.image.readOnly) return Errno.EROFS;
      if (offset + length > this.image.size) return Errno.ENOSPC;
    }
    const { sectorSize } = this.image;
    if (!(offset >= 0 && length > 0 && length <= MAX_LENGTH) || offset % sectorSize !== 0 || length % sectorSize !== 0)
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
