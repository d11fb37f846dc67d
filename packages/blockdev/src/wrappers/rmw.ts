import { type BlockFeatures, type BlockImage, BlockOp } from '../block-image.js';
import { BlockDeviceError } from '../errors.js';
import { allocateMemory } from '../queue/buffer.js';
import type { QueueOptions } from '../queue/engine-queue.js';
import { Errno } from '../queue/errno.js';
import { RangeLocks } from './range-locks.js';
import { OperationWrapper, type WrappedOperation, WrapperQueue } from './wrapper-queue.js';

/**
 * Presents smaller sectors than the image has: reads take whole sectors and keep a part, writes read the sectors that
 * they touch in part, and nothing else writes to these meanwhile. The data itself is not copied. It owns `inner`, must
 * be the only one to write to it, and stays on its thread. Throws BlockDeviceError ERR_SECTOR_SIZE.
 */
export function rmwImage(inner: BlockImage, sectorSize = 512): BlockImage {
  const ratio = inner.sectorSize / sectorSize;
  if (sectorSize >= 512 && ratio >= 1 && Number.isInteger(Math.log2(ratio))) return new RmwImage(inner, sectorSize);
  const message = `sectors of ${sectorSize} bytes do not fit into those of ${inner.description}, of ${inner.sectorSize}`;
  throw new BlockDeviceError('ERR_SECTOR_SIZE', 'open', message, { path: inner.description });
}

class RmwImage extends OperationWrapper {
  readonly locks = new RangeLocks();
  readonly #sectorSize: number;

  constructor(inner: BlockImage, sectorSize: number) {
    super(inner);
    this.#sectorSize = sectorSize;
  }

  override get sectorSize(): number {
    return this.#sectorSize;
  }

  /** Zeroing and secure discard would have to reach parts of sectors. */
  override get features(): BlockFeatures {
    return { ...this.inner.features, secureDiscard: false, writeZeroes: false };
  }

  protected override makeQueue(options: QueueOptions): WrapperQueue {
    return new RmwQueue(this, options);
  }
}

/** The whole sectors around an operation: [start, end), and how much of them lies before and after it. */
interface Cover {
  readonly start: number;
  readonly end: number;
  readonly before: number;
  readonly after: number;
}

class RmwQueue extends WrapperQueue {
  readonly #locks: RangeLocks;
  readonly #sector: number;
  /** Room for the first and the last sector of every operation. */
  readonly #edges: number;
  readonly #freeEdges: number[];

  constructor(image: RmwImage, options: QueueOptions) {
    super(image, options, options.depth * 2);
    this.#locks = image.locks;
    this.#sector = image.inner.sectorSize;
    this.#edges = this.addRegion(allocateMemory(options.depth * 2 * this.#sector));
    this.#freeEdges = Array.from({ length: options.depth }, (_, i) => i * 2 * this.#sector);
  }

  protected override beginWrapped(operation: WrappedOperation): void {
    const cover = this.#cover(operation);
    switch (operation.op) {
      case BlockOp.read:
        this.#read(operation, cover);
        break;
      case BlockOp.flush:
        this.perform(operation, (result) => this.complete(operation.tag, result));
        break;
      case BlockOp.write:
      case BlockOp.writeFua:
        this.#locks.acquire(cover.start, cover.end, () => this.#write(operation, cover));
        break;
      case BlockOp.discard:
        this.#discard(operation, cover);
        break;
      default:
        this.complete(operation.tag, Errno.EOPNOTSUPP);
    }
  }

  #cover({ offset, length }: WrappedOperation): Cover {
    const before = offset % this.#sector;
    const start = offset - before;
    const end = Math.ceil((offset + length) / this.#sector) * this.#sector;
    return { start, end, before, after: end - offset - length };
  }

  #read(operation: WrappedOperation, cover: Cover): void {
    const { tag, length } = operation;
    if (cover.before + cover.after === 0) {
      this.perform(operation, (result) => this.complete(tag, result));
      return;
    }
    const edges = this.#takeEdges();
    this.perform(this.#wide(operation, cover, edges), (result) => {
      this.#freeEdges.push(edges);
      this.complete(tag, result < 0 ? result : length);
    });
  }

  #write(operation: WrappedOperation, cover: Cover): void {
    if (cover.before + cover.after === 0) {
      this.perform(operation, (result) => this.#written(operation, cover, result));
      return;
    }
    const edges = this.#takeEdges();
    const last = cover.end - this.#sector;
    const sectors: [offset: number, at: number][] = [];
    if (cover.before > 0) sectors.push([cover.start, edges]);
    if (cover.after > 0 && (last > cover.start || cover.before === 0)) sectors.push([last, edges + this.#sector]);
    // One sector that has something on both sides of the operation is read once.
    const single = sectors.length === 1 && cover.before > 0 && cover.after > 0;
    const lastSector = single ? edges : edges + this.#sector;
    let missing = sectors.length;
    let failure = 0;
    for (const [from, at] of sectors) {
      const edge = Float64Array.of(this.#edges, at, this.#sector);
      this.perform({ op: BlockOp.read, offset: from, length: this.#sector, iov: edge }, (result) => {
        failure = Math.min(failure, result);
        if (--missing > 0) return;
        if (failure < 0) this.#finish(operation, cover, edges, failure);
        else this.#writeWide(operation, cover, edges, lastSector);
      });
    }
    this.inner.submit();
  }

  /** Two sectors of the memory for edges: there are two for each operation that the queue holds. */
  #takeEdges(): number {
    const edges = this.#freeEdges.pop();
    if (edges === undefined) throw new RangeError('more operations than the depth of the queue');
    return edges;
  }

  #writeWide(operation: WrappedOperation, cover: Cover, edges: number, lastSector: number): void {
    const wide = this.#wide(operation, cover, edges, lastSector);
    this.perform(wide, (result) => this.#finish(operation, cover, edges, result));
  }

  #finish(operation: WrappedOperation, cover: Cover, edges: number, result: number): void {
    this.#freeEdges.push(edges);
    this.#written(operation, cover, result < 0 ? result : operation.length);
  }

  #written(operation: WrappedOperation, cover: Cover, result: number): void {
    this.complete(operation.tag, result);
    this.#locks.release(cover.start, cover.end);
  }

  /** The operation on whole sectors: what is not the user's comes from, or goes to, the edges. */
  #wide(
    { op, iov }: WrappedOperation,
    { start, end, before, after }: Cover,
    edges: number,
    lastSector = edges + this.#sector,
  ): Omit<WrappedOperation, 'tag'> {
    const words = [...iov];
    if (before > 0) words.unshift(this.#edges, edges, before);
    if (after > 0) words.push(this.#edges, lastSector + this.#sector - after, after);
    return { op, offset: start, length: end - start, iov: Float64Array.from(words) };
  }

  /** A discard is a hint: it is done for the whole sectors inside it. */
  #discard({ op, tag, iov }: WrappedOperation, { start, end, before, after }: Cover): void {
    const from = before > 0 ? start + this.#sector : start;
    const to = after > 0 ? end - this.#sector : end;
    if (from >= to) {
      this.complete(tag, 0);
      return;
    }
    this.#locks.acquire(from, to, () => {
      this.perform({ op, offset: from, length: to - from, iov }, (result) => {
        this.complete(tag, result);
        this.#locks.release(from, to);
      });
      this.inner.submit();
    });
  }
}
