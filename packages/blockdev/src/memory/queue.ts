import { type BlockImage, BlockOp, IOV_WORDS } from '../block-image.js';
import type { QueueOptions } from '../queue/engine-queue.js';
import { Errno } from '../queue/errno.js';
import { LocalQueue } from '../queue/local-queue.js';
import { zero } from '../queue/zero.js';

/** Copies between scatter lists and one array of bytes. */
export class MemoryQueue extends LocalQueue {
  readonly #disk: Buffer;

  constructor(image: BlockImage, disk: SharedArrayBuffer, options: QueueOptions) {
    super(image, options);
    this.#disk = Buffer.from(disk);
  }

  protected override begin(op: BlockOp, at: number): void {
    this.complete(this.staging.tag(at), this.#perform(op, at));
  }

  #perform(op: BlockOp, at: number): number {
    const offset = this.staging.offset(at);
    const length = this.staging.length(at);
    switch (op) {
      case BlockOp.read:
        this.#read(offset, at);
        return length;
      case BlockOp.write:
      case BlockOp.writeFua:
        this.#write(offset, at);
        return length;
      case BlockOp.flush:
        return 0;
      case BlockOp.discard:
      case BlockOp.secureDiscard:
      case BlockOp.writeZeroes:
        zero(this.#disk, offset, offset + length);
        return 0;
      default:
        return Errno.EOPNOTSUPP;
    }
  }

  #read(offset: number, at: number): void {
    const { iov } = this.staging;
    const end = this.staging.iovEnd(at);
    for (let i = this.staging.iovStart(at); i < end; i += IOV_WORDS) {
      readInto(this.regions[iov[i]], iov[i + 1], iov[i + 2], this.#disk, offset);
      offset += iov[i + 2];
    }
  }

  #write(offset: number, at: number): void {
    const { iov } = this.staging;
    const end = this.staging.iovEnd(at);
    for (let i = this.staging.iovStart(at); i < end; i += IOV_WORDS) {
      this.#disk.set(this.regions[iov[i]].subarray(iov[i + 1], iov[i + 1] + iov[i + 2]), offset);
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
