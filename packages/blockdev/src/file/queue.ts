import { type BlockImage, BlockOp, IOV_WORDS } from '../block-image.js';
import { allocateMemory } from '../queue/buffer.js';
import type { FileDescriptors } from '../queue/descriptors.js';
import type { QueueOptions } from '../queue/engine-queue.js';
import { Errno } from '../queue/errno.js';
import { LocalQueue } from '../queue/local-queue.js';
import type { Staging } from '../queue/staging.js';
import { zero } from '../queue/zero.js';
import type { FileCalls } from './calls.js';

const SECTOR = 512;
const BOUNCE_BYTES = 1 << 20;
/** Buffers that one preadv or pwritev takes. */
const IOV_MAX = 1024;

/** Frees or zeroes a range off the main thread; calls back with 0 or a negative errno. */
export type RangeWorker = (op: BlockOp, offset: number, length: number, done: (result: number) => void) => void;

/** How a FileQueue reaches its image. */
export interface FileAccess {
  readonly files: FileDescriptors;
  readonly calls: FileCalls;
  /** Undefined without the addon: ranges can then be neither freed nor zeroed. */
  readonly rangeWorker: RangeWorker | undefined;
}

/** Reads and writes one operation a system call, by the calls that it is given: works everywhere. */
export class FileQueue extends LocalQueue {
  readonly access: FileAccess;
  readonly #free: FileOperation[] = [];

  constructor(image: BlockImage, options: QueueOptions, access: FileAccess) {
    super(image, options);
    this.access = access;
  }

  /** The bytes of a region. */
  region(region: number): Buffer {
    return this.regions[region];
  }

  finish(operation: FileOperation, result: number): void {
    this.#free.push(operation);
    this.complete(operation.tag, result);
  }

  protected override begin(op: BlockOp, at: number): void {
    const operation = this.#free.pop() ?? new FileOperation(this);
    operation.start(op, this.staging, at);
  }
}

/** One operation on its way, used again and again. */
class FileOperation {
  tag = 0;
  readonly #queue: FileQueue;
  readonly #access: FileAccess;
  #op: BlockOp = BlockOp.read;
  #offset = 0;
  #length = 0;
  #moved = 0;
  /** Memory that O_DIRECT takes, when it refuses the operation's own; or undefined. */
  #bounce: Buffer | undefined;
  /** Scatter list with adjacent entries merged, and how far it is used up. */
  #iov = new Float64Array(16 * IOV_WORDS);
  #iovWords = 0;
  #iovAt = 0;

  constructor(queue: FileQueue) {
    this.#queue = queue;
    this.#access = queue.access;
  }

  start(op: BlockOp, staging: Staging, at: number): void {
    const { files, calls, rangeWorker } = this.#access;
    this.tag = staging.tag(at);
    this.#op = op;
    this.#offset = staging.offset(at);
    this.#length = staging.length(at);
    this.#moved = 0;
    this.#bounce = undefined;
    this.#takeIov(staging.iov, staging.iovStart(at), staging.iovEnd(at));
    if (op <= BlockOp.writeFua) this.#move();
    else if (op === BlockOp.flush) calls.fdatasync(files.main, this.#onSync);
    else if (rangeWorker) rangeWorker(op, this.#offset, this.#length, this.#onRange);
    else this.#queue.finish(this, Errno.EOPNOTSUPP);
  }

  #takeIov(iov: Float64Array, start: number, end: number): void {
    if (end - start > this.#iov.length) this.#iov = new Float64Array((end - start) * 2);
    const own = this.#iov;
    let words = 0;
    for (let at = start; at < end; at += IOV_WORDS) {
      const last = words - IOV_WORDS;
      if (words > 0 && own[last] === iov[at] && own[last + 1] + own[last + 2] === iov[at + 1]) {
        own[last + 2] += iov[at + 2];
        continue;
      }
      own[words] = iov[at];
      own[words + 1] = iov[at + 1];
      own[words + 2] = iov[at + 2];
      words += IOV_WORDS;
    }
    this.#iovWords = words;
    this.#iovAt = 0;
  }

  /** Moves what is left, or as much of it as one call takes. */
  #move(): void {
    const { calls, files } = this.#access;
    const reads = this.#op === BlockOp.read;
    const position = this.#offset + this.#moved;
    if (this.#bounce) {
      this.#moveBounced(this.#bounce, position);
      return;
    }
    if (this.#iovWords - this.#iovAt > IOV_WORDS) {
      if (reads) calls.readv(files.main, this.#views(), position, this.#onMoved);
      else calls.writev(files.main, this.#views(), position, this.#onMoved);
      return;
    }
    const at = this.#iovAt;
    const buffer = this.#queue.region(this.#iov[at]);
    if (reads) calls.read(files.main, buffer, this.#iov[at + 1], this.#iov[at + 2], position, this.#onMoved);
    else calls.write(files.main, buffer, this.#iov[at + 1], this.#iov[at + 2], position, this.#onMoved);
  }

  /**
   * The same through other memory. Never through the page cache: cached pages would be in the way of direct writes to
   * the same blocks, whose flush then fails.
   */
  #moveBounced(bounce: Buffer, position: number): void {
    const { calls, files } = this.#access;
    const bytes = Math.min(bounce.length, this.#length - this.#moved);
    if (this.#op === BlockOp.read) {
      calls.read(files.main, bounce, 0, bytes, position, this.#onMoved);
      return;
    }
    this.#copyPieces(bytes, (piece, at) => bounce.set(piece, at));
    calls.write(files.main, bounce, 0, bytes, position, this.#onMoved);
  }

  /** Calls `copy` with each piece of the next `bytes`, and where it is among them. */
  #copyPieces(bytes: number, copy: (piece: Buffer, at: number) => void): void {
    const iov = this.#iov;
    for (let done = 0, at = this.#iovAt; done < bytes; at += IOV_WORDS) {
      const length = Math.min(bytes - done, iov[at + 2]);
      copy(this.#queue.region(iov[at]).subarray(iov[at + 1], iov[at + 1] + length), done);
      done += length;
    }
  }

  #views(): Buffer[] {
    const views: Buffer[] = [];
    for (let at = this.#iovAt; at < this.#iovWords && views.length < IOV_MAX; at += IOV_WORDS) {
      views.push(this.#queue.region(this.#iov[at]).subarray(this.#iov[at + 1], this.#iov[at + 1] + this.#iov[at + 2]));
    }
    return views;
  }

  readonly #onMoved = (error: NodeJS.ErrnoException | null, bytes: number): void => {
    if (error) this.#failed(error);
    else if (bytes === 0) this.#atEnd();
    else this.#advanced(bytes);
  };

  #failed(error: NodeJS.ErrnoException): void {
    const { files } = this.#access;
    const refused = error.code === 'EINVAL' && files.main !== files.buffered && !this.#bounce;
    if (refused) this.#bounce = Buffer.from(allocateMemory(Math.min(BOUNCE_BYTES, this.#length - this.#moved)));
    if (refused || error.code === 'EINTR' || error.code === 'EAGAIN') this.#move();
    else this.#queue.finish(this, error.errno ? -Math.abs(error.errno) : Errno.EIO);
  }

  #advanced(bytes: number): void {
    const bounce = this.#bounce;
    const reads = this.#op === BlockOp.read;
    if (bounce && reads) this.#copyPieces(bytes, (piece, at) => piece.set(bounce.subarray(at, at + piece.length)));
    const { calls, files } = this.#access;
    // O_DIRECT ends within a sector only at the end of the file.
    const end = reads && files.main !== files.buffered && bytes % SECTOR !== 0;
    this.#moved += bytes;
    if (this.#moved === this.#length) {
      if (this.#op === BlockOp.writeFua) calls.fdatasync(files.main, this.#onSync);
      else this.#queue.finish(this, this.#length);
      return;
    }
    const iov = this.#iov;
    while (bytes >= iov[this.#iovAt + 2]) {
      bytes -= iov[this.#iovAt + 2];
      this.#iovAt += IOV_WORDS;
    }
    iov[this.#iovAt + 1] += bytes;
    iov[this.#iovAt + 2] -= bytes;
    if (end) this.#atEnd();
    else this.#move();
  }

  /** Nothing was moved: a read is past the end, where a disk that should be longer has zeroes. */
  #atEnd(): void {
    if (this.#op !== BlockOp.read) {
      this.#queue.finish(this, Errno.EIO);
      return;
    }
    for (let at = this.#iovAt; at < this.#iovWords; at += IOV_WORDS) {
      zero(this.#queue.region(this.#iov[at]), this.#iov[at + 1], this.#iov[at + 1] + this.#iov[at + 2]);
    }
    this.#queue.finish(this, this.#length);
  }

  readonly #onSync = (error: NodeJS.ErrnoException | null): void => {
    if (error) this.#queue.finish(this, error.errno ? -Math.abs(error.errno) : Errno.EIO);
    else this.#queue.finish(this, this.#op === BlockOp.flush ? 0 : this.#length);
  };

  readonly #onRange = (result: number): void => this.#queue.finish(this, result);
}
