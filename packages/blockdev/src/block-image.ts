/**
 * What a storage engine is: the page that its author reads. A BlockImage is one opened disk with its geometry; each
 * BlockQueue of it is used by one thread. Operations come in through `push`, start together with `submit`, and end in
 * any order with one call of the listener for many of them.
 *
 * What must hold: an operation ends exactly once, with the whole length or a negative errno; a flush covers every write
 * that had ended when it was submitted; memory of an operation belongs to the engine from `push` to its end; `close`
 * waits for operations in flight. What never happens: an exception, a promise or an allocation per operation; a short
 * read or write; a change of the image by an operation that is refused; a completion from inside `push`.
 *
 * queue/engine-queue.ts has the checks, the regions and the staging that all engines share; an engine in JavaScript
 * starts from queue/local-queue.ts and writes one method. `testEngine` of ./testing checks the rest.
 */

/** What a queue can be asked to do. Offsets and lengths are in bytes, multiples of the image's sector size. */
export const BlockOp = {
  /** What is past the end of the image reads as zeroes. */
  read: 0,
  /** On stable storage when a flush that was submitted after its end completes. */
  write: 1,
  /** A write that is on stable storage when it completes. */
  writeFua: 2,
  /** All completed writes are on stable storage when it completes. No range. */
  flush: 3,
  /** A hint that the content is not needed any more: done for the whole granules inside the range. */
  discard: 4,
  /** A discard after which nobody can recover the content, as BLKSECDISCARD. */
  secureDiscard: 5,
  /** The range reads as zeroes when it completes. No data is passed. */
  writeZeroes: 6,
} as const;
export type BlockOp = (typeof BlockOp)[keyof typeof BlockOp];

/** What the storage can do beyond reading and writing. An operation that it cannot do ends with EOPNOTSUPP. */
export interface BlockFeatures {
  /** Whether `BlockOp.flush` reaches stable storage. If false it does nothing, and succeeds. */
  readonly flush: boolean;
  /** Whether there is `BlockOp.writeFua`. */
  readonly fua: boolean;
  /** Whether there is `BlockOp.discard`; false for a read-only image. */
  readonly discard: boolean;
  /** Whether there is `BlockOp.secureDiscard`; only with `discard`. */
  readonly secureDiscard: boolean;
  /** Whether there is `BlockOp.writeZeroes`; false for a read-only image. */
  readonly writeZeroes: boolean;
  /** Bytes: the length of a granule, the unit of discards. 0 without discard. */
  readonly discardGranularity: number;
  /** Bytes from the start of the image to its first whole granule; 0 without discard. */
  readonly discardAlignment: number;
  /**
   * False: after a flush that failed, the next one may succeed although writes are gone that the first should have
   * covered, as with the page cache, which drops what it could not write. True when not given.
   */
  readonly repeatableFlush?: boolean | undefined;
}

/** Words of one entry of a scatter list: region, byte offset in the region, length in bytes. */
export const IOV_WORDS = 3;

/**
 * Receives completions: `tags[i]` ended with `results[i]`, for i below count. A result is the number of bytes moved (0
 * for operations without data) or a negative errno. Short reads and writes do not occur: the engine goes on until all
 * is done; what is past the end of a file reads as zeroes. Invalid operations end with EINVAL (not whole sectors, a
 * scatter list of another length), EFAULT (memory outside of its region), ENOSPC (a change past the end), EROFS or
 * EOPNOTSUPP; a flush after which earlier writes are known to be gone, and stay so, with EOWNERDEAD (-130). The arrays are
 * the queue's own.
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
   * An eventfd that becomes readable when there are completions to `poll` for, or -1: for threads that sleep elsewhere
   * than in the event loop, which must reset it.
   */
  readonly completionFd: number;
  /** Makes more memory (a guest's mapped pages) usable in scatter lists; returns its region number. */
  addRegion(buffer: ArrayBufferLike): number;
  /** Forgets a region; none of its operations may be in flight. */
  removeRegion(region: number): void;
  /**
   * Stages one operation on `length` bytes at byte `offset` of the image. Data goes to or from
   * `iov[0 .. iovCount * IOV_WORDS)`, which is copied at once and whose lengths add up to `length`; operations without
   * data have iovCount 0. `tag` is any 32-bit integer. Returns false when `depth` operations are in flight.
   */
  push(op: BlockOp, tag: number, offset: number, length: number, iov: Float64Array, iovCount: number): boolean;
  /**
   * Starts all that is staged (one system call where the engine can). `polled` promises a `poll` in the same turn of
   * the event loop: nobody has to be woken for what completes at once, and completions may be delivered right here.
   */
  submit(polled?: boolean): void;
  /** Delivers completions without waiting for the event loop; returns their number. */
  poll(): number;
  /** Who gets completions: never from inside `push`, and from inside `submit` only if that is polled. */
  onComplete(listener: CompletionListener): void;
  /**
   * The queue's user goes, and nobody waits for its operations: those that wait for storage that is away, or does not
   * answer, fail soon. `close` must follow. Not there where no operation can wait.
   */
  giveUp?(): void;
  /** Waits for operations in flight, then frees everything. Harmless when repeated. */
  close(): Promise<void>;
}

/** How a worker thread opens the same image: `import(module)` and call `attachImage(data)`. */
export interface SharedImage {
  /** What `import` takes: a URL with the scheme `file:`. */
  readonly module: string;
  /** For `attachImage` on a thread of this process (a structured clone), as long as the image is open here. */
  readonly data: unknown;
}

/** A part of an image, as its storage tells of it. With both false it has data. */
export interface ImageExtent {
  /** Bytes, a multiple of the image's sector size. */
  readonly length: number;
  /** Nothing is stored for it. */
  readonly isHole: boolean;
  /** It reads as zeroes. */
  readonly isZero: boolean;
}

/** How an image looks at its storage again. */
export interface RefreshOptions {
  /** True: the end of the image may be cut off. */
  readonly mayShrink?: boolean | undefined;
  /** Ends the wait; a look that has not begun is not taken, and the image keeps the size that it has. */
  readonly signal?: AbortSignal | undefined;
}

/** An opened image: its geometry and its queues. */
export interface BlockImage extends AsyncDisposable {
  /** `io_uring`, `threads`, `sync`, `memory`, `null`, `nbd`. */
  readonly engine: string;
  /** What it is, for messages and logs: a path or a description. */
  readonly description: string;
  /**
   * Which storage it is, the same by whatever name and in every process: `file 65024:4711` (device of the file system and
   * inode), `device 7:0`, or a server's address. Undefined where nothing tells one from another.
   */
  readonly identity?: string | undefined;
  /** Bytes, as of the last `refresh`. */
  readonly size: number;
  /** Bytes: what offsets and lengths must be multiples of. */
  readonly sectorSize: number;
  /** Bytes of the unit that the storage works in, at least `sectorSize`: a hint what to align to. */
  readonly physicalSectorSize: number;
  /** True: operations that would change the image end with EROFS. */
  readonly readOnly: boolean;
  /** As found when the image was opened. */
  readonly features: BlockFeatures;
  /** `memory` becomes region 0; see `allocateMemory`. */
  createQueue(options: { depth: number; memory: ArrayBufferLike }): BlockQueue;
  /**
   * Looks at the storage again; resolves with the bytes of its whole sectors. They are the image's `size` from then on,
   * unless they are fewer than before and it may not shrink. Rejects as opening it would, or with
   * the signal's reason.
   */
  refresh(options?: RefreshOptions): Promise<number>;
  /** Its storage may grow without a word, and `refresh` costs next to nothing: who serves it looks from time to time. */
  readonly growsUnseen?: boolean | undefined;
  /**
   * Makes the storage that many bytes long; what is cut off is lost. `refresh` tells of it. Undefined where the storage is
   * not ours to resize. Error: BlockDeviceError, ENOTSUP for a block device, or what the system says.
   */
  readonly resize?: ((bytes: number) => Promise<void>) | undefined;
  /**
   * Has all that was written flushed, when nothing is in flight, and takes nothing from what later flushes tell. Resolves with
   * false if that is not possible within `ms` milliseconds. Undefined where the next opening finds all that was written.
   */
  readonly settle?: ((ms: number) => Promise<boolean>) | undefined;
  /**
   * Tells what is stored for `length` bytes at byte `offset`, whole sectors within the image: extents that follow each other
   * from there on, and may end before the range does. Data that was written, and acknowledged before, is told as data. Rejects
   * where that cannot be found out now. Undefined where nobody can tell: all may be data.
   */
  readonly extents?: ((offset: number, length: number) => Promise<readonly ImageExtent[]>) | undefined;
  /** Opens the image on another thread; or undefined. */
  share(): SharedImage | undefined;
  /** Closes its open queues first. Harmless when repeated. */
  close(): Promise<void>;
}
