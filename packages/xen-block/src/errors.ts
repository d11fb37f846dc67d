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
  | 'exchange'
  | 'connect'
  | 'serve'
  | 'move'
  | 'limit'
  | 'firstFreeVdev';

/** A disk that cannot be served as it is configured or negotiated. Its text is what the error node says. */
export class XenBlockError extends Error {
  override readonly name = 'XenBlockError';
  readonly code: XenBlockErrorCode;
  /**
   * `prepare`: opening what the toolstack configured. `refresh`: looking at it again. `exchange`: another image in its place. `connect`: what the frontend
   * negotiated. `serve`: a ring in use. `move`: a queue, to another thread. `start`: a thread. `firstFreeVdev`: that
   * function.
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
}

/** The code of an error of the layers below; `EIO` when it has none. */
export function codeOf(error: unknown): XenBlockErrorCode {
  return errorCode(error) as XenBlockErrorCode;
}
