import { type BlockImage, BlockOp, IOV_WORDS } from '../block-image.js';
import type { QueueOptions } from '../queue/engine-queue.js';
import { Failure } from '../queue/errno.js';
import { LocalQueue } from '../queue/local-queue.js';
import { STAGED_WORDS, StagedWord } from '../queue/staging.js';
import { zero } from './zero.js';

/** Copies between scatter lists and one array of bytes. */
export class MemoryQueue extends LocalQueue {
  readonly #disk: Buffer;
  readonly #views: Buffer[] = [];

  constructor(image: BlockImage, disk: SharedArrayBuffer, options: QueueOptions) {
    super(image, options);
    this.#disk = Buffer.from(disk);
    this.#views[0] = Buffer.from(options.memory);
  }

  override addRegion(buffer: ArrayBufferLike): number {
    const region = super.addRegion(buffer);
    this.#views[region] = Buffer.from(buffer);
    return region;
  }

  override submit(): void {
    const { operations, count } = this.staging;
    for (let at = 0; at < count * STAGED_WORDS; at += STAGED_WORDS) {
      this.complete(operations[at + StagedWord.tag], this.#perform(at));
    }
    this.staging.clear();
  }

  #perform(at: number): number {
    const { operations } = this.staging;
    const op = operations[at + StagedWord.op];
    const offset = operations[at + StagedWord.offset];
    const length = operations[at + StagedWord.length];
    switch (op) {
      case BlockOp.read:
      case BlockOp.write:
      case BlockOp.writeFua:
        this.#move(op, offset, at);
        return length;
      case BlockOp.flush:
        return 0;
      case BlockOp.discard:
      case BlockOp.secureDiscard:
      case BlockOp.writeZeroes:
        zero(this.#disk, offset, offset + length);
        return 0;
      default:
        return op < 0 ? op : Failure.unsupported;
    }
  }

  #move(op: number, offset: number, at: number): void {
    const { iov, operations } = this.staging;
    const first = operations[at + StagedWord.iovAt];
    const end = first + operations[at + StagedWord.iovCount] * IOV_WORDS;
    for (let i = first; i < end; i += IOV_WORDS) {
      const bytes = this.#views[iov[i]];
      if (op === BlockOp.read) readInto(bytes, iov[i + 1], iov[i + 2], this.#disk, offset);
      else this.#disk.set(bytes.subarray(iov[i + 1], iov[i + 1] + iov[i + 2]), offset);
      offset += iov[i + 2];
    }
  }
}

/** Copies `length` bytes of `disk` at `offset` to `bytes[at]`; what is beyond the disk's end is zeroes. */
function readInto(bytes: Buffer, at: number, length: number, disk: Uint8Array, offset: number): void {
  const present = Math.max(0, Math.min(length, disk.length - offset));
  bytes.set(disk.subarray(offset, offset + present), at);
  zero(bytes, at + present, at + length);
}
