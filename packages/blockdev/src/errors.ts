import type { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';

/** The name of a system error: `ENOENT`, `EACCES`. */
export type ErrnoName = keyof typeof constants.errno;

/** What went wrong: a system error's name, or the package's own code (each function that throws names its own). */
export type BlockDeviceErrorCode =
  | ErrnoName
  | 'ERR_NOT_LINUX'
  /** There is no build of the addon for this machine. */
  | 'ERR_NO_ADDON'
  /** There is one, and it does not load. */
  | 'ERR_ADDON_LOAD'
  | 'ERR_NO_IO_URING'
  | 'ERR_NO_DIRECT'
  /** Another program, or another user in this process, holds a lock on the image. */
  | 'ERR_IMAGE_IN_USE'
  /** What an ended process began is in flight: it could still change the image. */
  | 'ERR_IMAGE_IN_FLIGHT'
  /** It is not in or below the directories that were given. */
  | 'ERR_IMAGE_OUTSIDE'
  | 'ERR_IMAGE_TYPE'
  | 'ERR_IMAGE_EMPTY'
  | 'ERR_IMAGE_UNALIGNED'
  /** `attachImage` was given something else than what `share()` gives. */
  | 'ERR_IMAGE_SHARED'
  | 'ERR_SECTOR_SIZE'
  /** The NBD server refuses, or does not speak NBD. */
  | 'ERR_NBD'
  | 'ERR_QUEUE_CLOSED';

/** What was tried. */
export type BlockDeviceErrorOp = 'load' | 'open' | 'connect' | 'lock' | 'resize' | 'attach' | 'push' | 'operate';

/** On every BlockDeviceError, whichever copy of this package it comes from: ES modules, CommonJS, another version. */
const BRAND = Symbol.for('@xenpv/blockdev.BlockDeviceError');

/** An image that could not be opened or used. Operations on a queue give negative errno numbers instead. */
export class BlockDeviceError extends Error {
  /** Tells the class where only text is kept, as in a log. */
  override readonly name = 'BlockDeviceError';
  /** What went wrong, for programs; the message is for people. */
  readonly code: BlockDeviceErrorCode;
  /**
   * `load`: the native addon. `open`: the storage, or its geometry is of no use. `connect`: to an NBD server. `lock`:
   * against other users. `resize`: the image. `attach`: a shared image, on another thread. `push`: to a queue that is
   * closed. `operate`: a disk that `nbdDiskOf` made.
   */
  readonly op: BlockDeviceErrorOp;
  /** The file, device or socket. */
  readonly path: string | undefined;

  constructor(
    code: BlockDeviceErrorCode,
    op: BlockDeviceErrorOp,
    message: string,
    options: { readonly path?: string | undefined; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.op = op;
    this.path = options.path;
  }

  static {
    Object.defineProperty(BlockDeviceError.prototype, BRAND, { value: true });
  }

  /** Holds for the errors of every copy of this package; for a class derived from this one, as usual. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: derived classes inherit this method.
    if (this !== BlockDeviceError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return value instanceof Error && BRAND in value;
  }
}

const ADVICE: { readonly [Code in ErrnoName]?: string } = {
  ENOENT: 'does not exist',
  ENOTDIR: 'does not exist: a part of the path is not a directory',
  EACCES: 'may not be opened: check its permissions, or open it read-only',
  EPERM: 'may not be opened: check its permissions, or open it read-only',
  EROFS: 'is on a read-only file system: open it read-only',
  EISDIR: 'is a directory, not an image',
  EBUSY: 'is in use',
  ETXTBSY: 'is in use',
};

const FAILED: { readonly [Op in BlockDeviceErrorOp]?: string } = { resize: 'cannot be resized' };

/** The typed error for a failed system call on an image's path. */
export function openError(cause: unknown, op: BlockDeviceErrorOp, path: string): BlockDeviceError {
  if (cause instanceof BlockDeviceError) return cause;
  const code = (cause as { code?: ErrnoName }).code ?? 'EIO';
  const problem = ADVICE[code] ?? `${FAILED[op] ?? 'cannot be opened'} (${code})`;
  return new BlockDeviceError(code, op, `${path} ${problem}`, { path, cause });
}

/** The name of a negative errno. */
export function errnoNameOf(errno: number): ErrnoName {
  return getSystemErrorName(errno) as ErrnoName;
}
