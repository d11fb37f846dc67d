import { type BlockImage, BlockOp, IOV_WORDS } from '../block-image.js';
import type { QueueOptions } from '../queue/engine-queue.js';
import { Failure } from '../queue/errno.js';
import { LocalQueue } from '../queue/local-queue.js';
import { STAGED_WORDS, StagedWord } from '../queue/staging.js';
import type { FileCalls } from './calls.js';

/** Buffers that one preadv or pwritev takes. */
const IOV_MAX = 1024;

/** Frees or zeroes a range off the main thread; calls back with 0 or a negative errno. */
export type RangeWorker = (op: BlockOp, offset: number, length: number, done: (result: number) => void) => void;

/** The open descriptors of an image. */
export interface FileDescriptors {
  readonly main: number;
  /** Without O_DIRECT, for what O_DIRECT refuses: memory or a file's tail that is not aligned. Often the same. */
  readonly buffered: number;
}

/** Reads and writes one operation a system call, by the calls that it is given: works everywhere. */
export class FileQueue extends LocalQueue {
  readonly calls: FileCalls;
  readonly files: FileDescriptors;
  readonly rangeWorker: RangeWorker | undefined;
  readonly #buffers: Buffer[] = [];
  readonly #free: FileOperation[] = [];

  constructor(
    image: BlockImage,
    options: QueueOptions,
    files: FileDescriptors,
    calls: FileCalls,
    rangeWorker: RangeWorker | undefined,
  ) {
    super(image, options);
    this.calls = calls;
    this.files = files;
    this.rangeWorker = rangeWorker;
    this.#buffers[0] = Buffer.from(options.memory);
  }

  override addRegion(memory: ArrayBufferLike): number {
    const region = super.addRegion(memory);
    this.#buffers[region] = Buffer.from(memory);
    return region;
  }

  override submit(): void {
    const { operations, iov, count } = this.staging;
    for (let at = 0; at < count * STAGED_WORDS; at += STAGED_WORDS) {
      const operation = this.#free.pop() ?? new FileOperation(this);
      operation.start(operations, at, iov);
    }
    this.staging.clear();
  }

  /** The bytes that one scatter list entry means. */
  buffer(region: number): Buffer {
    return this.#buffers[region];
  }

  finish(operation: FileOperation, result: number): void {
    this.#free.push(operation);
    this.complete(operation.tag, result);
  }
}

/** One operation on its way, used again and again. */
class FileOperation {
  tag = 0;
  readonly #queue: FileQueue;
  #op: BlockOp = BlockOp.read;
  #offset = 0;
  #length = 0;
  #moved = 0;
  #fd = 0;
  /** Scatter list with adjacent entries merged, and how far it is used up. */
  #iov = new Float64Array(16 * IOV_WORDS);
  #iovWords = 0;
  #iovAt = 0;

  constructor(queue: FileQueue) {
    this.#queue = queue;
  }

  start(operations: Float64Array, at: number, iov: Float64Array): void {
    const op = operations[at + StagedWord.op];
    this.tag = operations[at + StagedWord.tag];
    this.#op = op as BlockOp;
    this.#offset = operations[at + StagedWord.offset];
    this.#length = operations[at + StagedWord.length];
    this.#moved = 0;
    this.#fd = this.#queue.files.main;
    this.#takeIov(iov, operations[at + StagedWord.iovAt], operations[at + StagedWord.iovCount]);
    if (op < 0) this.#queue.finish(this, op);
    else if (op <= BlockOp.writeFua) this.#move();
    else if (op === BlockOp.flush) this.#queue.calls.fdatasync(this.#fd, this.#onSync);
    else if (this.#queue.rangeWorker) this.#queue.rangeWorker(this.#op, this.#offset, this.#length, this.#onRange);
    else this.#queue.finish(this, Failure.unsupported);
  }

  #takeIov(iov: Float64Array, from: number, count: number): void {
    if (count * IOV_WORDS > this.#iov.length) this.#iov = new Float64Array(count * IOV_WORDS * 2);
    const own = this.#iov;
    let words = 0;
    for (let at = from; at < from + count * IOV_WORDS; at += IOV_WORDS) {
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
    const { calls } = this.#queue;
    const reads = this.#op === BlockOp.read;
    const position = this.#offset + this.#moved;
    if (this.#iovWords - this.#iovAt > IOV_WORDS) {
      if (reads) calls.readv(this.#fd, this.#views(), position, this.#onMoved);
      else calls.writev(this.#fd, this.#views(), position, this.#onMoved);
      return;
    }
    const at = this.#iovAt;
    const buffer = this.#queue.buffer(this.#iov[at]);
    if (reads) calls.read(this.#fd, buffer, this.#iov[at + 1], this.#iov[at + 2], position, this.#onMoved);
    else calls.write(this.#fd, buffer, this.#iov[at + 1], this.#iov[at + 2], position, this.#onMoved);
  }

  #views(): Buffer[] {
    const views: Buffer[] = [];
    for (let at = this.#iovAt; at < this.#iovWords && views.length < IOV_MAX; at += IOV_WORDS) {
      views.push(this.#queue.buffer(this.#iov[at]).subarray(this.#iov[at + 1], this.#iov[at + 1] + this.#iov[at + 2]));
    }
    return views;
  }

  readonly #onMoved = (error: NodeJS.ErrnoException | null, bytes: number): void => {
    if (error) this.#failed(error);
    else if (bytes === 0) this.#atEnd();
    else this.#advanced(bytes);
  };

  #failed(error: NodeJS.ErrnoException): void {
    const { files } = this.#queue;
    const refused = error.code === 'EINVAL' && this.#fd !== files.buffered;
    if (refused) this.#fd = files.buffered;
    if (refused || error.code === 'EINTR' || error.code === 'EAGAIN') this.#move();
    else this.#queue.finish(this, error.errno ? -Math.abs(error.errno) : Failure.io);
  }

  #advanced(bytes: number): void {
    this.#moved += bytes;
    if (this.#moved === this.#length) {
      if (this.#op === BlockOp.writeFua) this.#queue.calls.fdatasync(this.#fd, this.#onSync);
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
    this.#move();
  }

  /** Nothing was moved: a read is past the end, where a disk that should be longer has zeroes. */
  #atEnd(): void {
    if (this.#op !== BlockOp.read) {
      this.#queue.finish(this, Failure.io);
      return;
    }
    for (let at = this.#iovAt; at < this.#iovWords; at += IOV_WORDS) {
      this.#queue.buffer(this.#iov[at]).fill(0, this.#iov[at + 1], this.#iov[at + 1] + this.#iov[at + 2]);
    }
    this.#queue.finish(this, this.#length);
  }

  readonly #onSync = (error: NodeJS.ErrnoException | null): void => {
    if (error) this.#queue.finish(this, error.errno ? -Math.abs(error.errno) : Failure.io);
    else this.#queue.finish(this, this.#op === BlockOp.flush ? 0 : this.#length);
  };

  readonly #onRange = (result: number): void => this.#queue.finish(this, result);
}
