/** What a queue can be asked to do. Offsets and lengths are in bytes, multiples of the image's sector size. */
export const BlockOp = {
  read: 0,
  write: 1,
  /** A write that is on stable storage when it completes. */
  writeFua: 2,
  /** All completed writes are on stable storage when it completes. No range. */
  flush: 3,
  discard: 4,
  secureDiscard: 5,
  writeZeroes: 6,
} as const;
export type BlockOp = (typeof BlockOp)[keyof typeof BlockOp];

/** What the storage can do beyond reading and writing. */
export interface BlockFeatures {
  readonly flush: boolean;
  readonly fua: boolean;
  readonly discard: boolean;
  readonly secureDiscard: boolean;
  readonly writeZeroes: boolean;
  /** Bytes; 0 without discard. */
  readonly discardGranularity: number;
  readonly discardAlignment: number;
}

/** Words of one entry of a scatter list: region, byte offset in the region, length in bytes. */
export const IOV_WORDS = 3;

/**
 * Receives completions: `tags[i]` ended with `results[i]`, for i below count. A result is the number of bytes
 * moved (0 for operations without data) or a negative errno. Short reads and writes do not occur: the engine
 * goes on until all is done; what is past the end of a file reads as zeroes. Operations that make no sense end with
 * EINVAL (not whole sectors, a scatter list of another length), EFAULT (memory that is not there), ENOSPC (a change past
 * the end), EROFS or EOPNOTSUPP. The arrays are the queue's own.
 */
export type CompletionListener = (tags: Int32Array, results: Int32Array, count: number) => void;

/**
 * One submission queue of an image, used by one thread. Operations are staged with `push`, started together with
 * `submit`, and complete in any order, identified by their tag. Nothing here allocates per operation, throws per
 * operation or makes promises.
 */
export interface BlockQueue extends AsyncDisposable {
  /** Operations at once, staged and in flight. */
  readonly depth: number;
  /** Region 0: the memory given to `createQueue`. */
  readonly memory: ArrayBufferLike;
  /** Operations pushed and not completed. */
  readonly inFlight: number;
  /**
   * An eventfd that becomes readable when there are completions to `poll` for, or -1 where there is none: for threads
   * that sleep elsewhere than in the event loop, which must reset it.
   */
  readonly completionFd: number;
  /** Makes more memory (a guest's mapped pages) usable in scatter lists; returns its region number. */
  addRegion(buffer: ArrayBufferLike): number;
  removeRegion(region: number): void;
  /**
   * Stages one operation on `length` bytes at byte `offset` of the image. Data goes to or from
   * `iov[0 .. iovCount * IOV_WORDS)`, which is copied at once and whose lengths add up to `length`; operations
   * without data have iovCount 0. `tag` is any 32-bit integer. Returns false when `depth` operations are under way.
   */
  push(op: BlockOp, tag: number, offset: number, length: number, iov: Float64Array, iovCount: number): boolean;
  /**
   * Starts all that is staged (one system call where the engine can). `polled` promises a `poll` in the same turn of the
   * event loop, which an engine whose operations end at once may otherwise have to arrange for.
   */
  submit(polled?: boolean): void;
  /** Delivers what has completed without waiting for the event loop; returns how many completions. */
  poll(): number;
  /** Who gets completions. They are never delivered from inside `push` or `submit`. */
  onComplete(listener: CompletionListener): void;
  /** Waits for what is in flight, then frees everything. Harmless when repeated. */
  close(): Promise<void>;
}

/** How a worker thread opens the same image: `import(module)` and call `attachImage(data)`. */
export interface SharedImage {
  readonly module: string;
  readonly data: unknown;
}

/** An opened image: its geometry and its queues. */
export interface BlockImage extends AsyncDisposable {
  /** `io_uring`, `threads`, `memory`, `null`, `nbd`. */
  readonly engine: string;
  /** What it is, for messages and logs: a path or a description. */
  readonly description: string;
  /** Bytes, as of the last `refresh`. */
  readonly size: number;
  /** Bytes: what offsets and lengths must be multiples of. */
  readonly sectorSize: number;
  readonly physicalSectorSize: number;
  readonly readOnly: boolean;
  readonly features: BlockFeatures;
  /** `memory` becomes region 0; see `allocateMemory`. */
  createQueue(options: { depth: number; memory: ArrayBufferLike }): BlockQueue;
  /** Looks at the storage again; returns the size in bytes. */
  refresh(): Promise<number>;
  /** Opens the image on another thread; undefined where it can't be shared. */
  share(): SharedImage | undefined;
  /** Closes what is open of its queues first. Harmless when repeated. */
  close(): Promise<void>;
}
