import { loadNativeBuild, XenSysError } from '@xenpv/xen-sys';
import { BlockDeviceError, type BlockDeviceErrorCode } from './errors.js';
import { packageRoot } from './package-root.js';

/**
 * The addon's functions (native/addon.cc). Those that can fail return a negative errno; all throw a TypeError or a
 * RangeError for arguments that they do not take.
 */
export interface Addon {
  /**
   * Makes a ring for this thread and returns its number. `onReady` is called by the event loop while there are
   * completions to reap; `ready` receives what is found then. Its work is done by io_uring with `uring`, and otherwise by
   * threads that each queue has for itself.
   */
  ringOpen(onReady: () => void, ready: Int32Array, uring: boolean): number;
  /** A function that collects completions. */
  ringReaper(ring: number): Reap;
  /** The eventfd that becomes readable with completions. */
  ringEventFd(ring: number): number;
  /**
   * A function that sleeps in the ring, by the words of `control` (`SleepWord`), for events of the descriptor `events`, whose
   * ports come in `ports`; undefined where the kernel's ring cannot. {@link ringEndSleeps} must follow a series of sleeps.
   */
  ringSleeper(
    ring: number,
    events: number,
    control: Int32Array,
    unmask: Uint32Array,
    ports: Uint32Array,
    eventfds: Int32Array,
  ): (() => number) | undefined;
  /** The bytes of ports that came at last. Says in `control` whether the ring must be reaped. */
  ringEndSleeps(ring: number, control: Int32Array): number;
  /** Makes a queue on this thread's ring, whose completions are written to `tags` and `results`; returns its number. */
  queueOpen(
    ring: number,
    depth: number,
    mainFd: number,
    bufferedFd: number,
    blockDevice: boolean,
    tags: Int32Array,
    results: Int32Array,
  ): number;
  /** Says where the queue's staged operations and scatter lists are (queue/staging.ts). */
  queueStaging(ring: number, queue: number, operations: Float64Array, iov: Float64Array): void;
  queueRegion(ring: number, queue: number, region: number, bytes: Uint8Array | undefined): void;
  /** A function that starts what the queue has staged. */
  queueStarter(ring: number, queue: number): Start;
  queueClose(ring: number, queue: number): void;
  /** Performs a range operation (a BlockOp) on libuv's thread pool. */
  range(
    op: number,
    fd: number,
    blockDevice: boolean,
    offset: number,
    length: number,
    done: (result: number) => void,
  ): void;
  /** Writes out a file's dirty pages and drops its clean ones from the page cache, on libuv's thread pool. */
  dropCache(fd: number, done: (result: number) => void): void;
  /**
   * Looks for data and holes of a file, on libuv's thread pool. `ends` are where they end: they take turns, data is first, and
   * empty where a hole is. The last one ends before the range where there are more than about a thousand.
   */
  extents(fd: number, offset: number, length: number, done: (result: number, ends: Float64Array) => void): void;
  /** Makes a hole in a file, at once. */
  punch(fd: number, offset: number, length: number): number;
  /** Writes which alignments O_DIRECT wants of memory and offsets, in bytes; 0 and 0 where it does not work. */
  directAlignment(fd: number, alignments: Float64Array): number;
  /** Zeroed memory of whole pages, with pages around it that nobody can touch; or a negative errno. */
  allocate(bytes: number): ArrayBuffer | number;
  /** The address of an array's first byte. */
  address(bytes: Uint8Array): number;
  /** Locks a byte, shared, for the open file description. */
  lockByte(fd: number, byte: number): number;
  unlockByte(fd: number, byte: number): number;
  /** 1 if another open file description has a lock on the byte. */
  byteLockedElsewhere(fd: number, byte: number): number;
  /** Another descriptor of the same open file description, which has its locks. */
  duplicate(fd: number): number;
  /** Closes a duplicate, on libuv's thread pool: Node warns of descriptors that it has not opened. */
  closeDuplicate(fd: number, done: (result: number) => void): void;
}

/** Collects completions; returns how many pairs (queue, count) of `ready` are valid. If all are, there may be more. */
export type Reap = () => number;

/**
 * Starts the first `count` staged operations. With `reap` it collects completions too, and returns what {@link Reap}
 * does. Otherwise not 0 if the ring must be reaped soon and `onReady` will not say so: some operations have completed
 * at once, or the kernel was short of memory.
 */
export type Start = (count: number, reap: boolean) => number;

let addon: Addon | BlockDeviceError | undefined;

/** The native addon of this package. Errors: ERR_NOT_LINUX, ERR_NO_ADDON, ERR_ADDON_LOAD (`loadNativeBuild` of xen-sys). */
export function loadAddon(): Addon {
  addon ??= findAddon();
  if (addon instanceof BlockDeviceError) throw addon;
  return addon;
}

/** The same, or undefined: for what can be done without it. */
export function optionalAddon(): Addon | undefined {
  try {
    return loadAddon();
  } catch {
    return undefined;
  }
}

function findAddon(): Addon | BlockDeviceError {
  try {
    return loadNativeBuild('@xenpv/blockdev', packageRoot()) as Addon;
  } catch (cause) {
    if (!(cause instanceof XenSysError)) throw cause;
    const { code, message, path } = cause;
    return new BlockDeviceError(code as BlockDeviceErrorCode, 'load', message, { path, cause });
  }
}
