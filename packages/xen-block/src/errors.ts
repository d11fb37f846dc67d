import type { RingErrorCode } from '@xenpv/ring';
import type { XenSysErrorCode } from '@xenpv/xen-sys';
import { errorCode } from '@xenpv/xenbus';

/**
 * An errno name or a code of the layers below; or `ERR_JOURNAL`, a ring's journal cannot be made or mapped;
 * `ERR_JOURNAL_LOST`, which requests of a ring that is taken over are in flight is not known; `ERR_IMAGE_CHANGED`, the
 * image of a disk that is taken over is another one, or shorter, or that in its place has other sectors.
 */
export type XenBlockErrorCode =
  | XenSysErrorCode
  | RingErrorCode
  | 'ERR_JOURNAL'
  | 'ERR_JOURNAL_LOST'
  | 'ERR_IMAGE_CHANGED';

/** What was tried. */
export type XenBlockOp =
  | 'start'
  | 'prepare'
  | 'refresh'
  | 'resize'
  | 'exchange'
  | 'connect'
  | 'serve'
  | 'move'
  | 'limit'
  | 'firstFreeVdev';

/** On every XenBlockError, whichever copy of this package it comes from: ES modules, CommonJS, another version. */
const BRAND = Symbol.for('@xenpv/xen-block.XenBlockError');

/** A disk that cannot be served as it is configured or negotiated. Its text is what the error node says. */
export class XenBlockError extends Error {
  /** Tells the class where only text is kept, as in a log. */
  override readonly name = 'XenBlockError';
  /** What went wrong, for programs; the message is for people. */
  readonly code: XenBlockErrorCode;
  /**
   * `start`: a thread. `prepare`: opening what the toolstack configured. `refresh`: looking at it again. `resize`:
   * another size of it. `exchange`: another image in its place. `connect`: what the frontend negotiated, or what an earlier process left of its disk.
   * `serve`: a ring in use. `move`: a queue, to another thread. `limit`: writing limits or a pause to the directory of
   * the disk. `firstFreeVdev`: that function.
   */
  readonly op: XenBlockOp;
  /** The xenstore path or the file at fault, where there is one. */
  readonly path: string | undefined;

  constructor(
    code: XenBlockErrorCode,
    op: XenBlockOp,
    message: string,
    options: { readonly path?: string | undefined; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.op = op;
    this.path = options.path;
  }

  static {
    Object.defineProperty(XenBlockError.prototype, BRAND, { value: true });
  }

  /** Holds for the errors of every copy of this package; for a class derived from this one, as usual. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: derived classes inherit this method.
    if (this !== XenBlockError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return value instanceof Error && BRAND in value;
  }
}

/** The code of an error of the layers below; `EIO` when it has none. */
export function codeOf(error: unknown): XenBlockErrorCode {
  return errorCode(error) as XenBlockErrorCode;
}
