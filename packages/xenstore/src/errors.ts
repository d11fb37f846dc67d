/**
 * Why an operation failed: the daemon's own word for it (an errno name of xs_wire.h), or one of ours.
 *
 * - `ERR_CLOSED` the connection is closed or broke; everything that was pending got this.
 * - `ERR_PROTOCOL` the other end sent what the protocol does not allow; the connection is given up.
 * - `ERR_INVALID_PATH`, `ERR_INVALID_ARGUMENT` refused here, before anything was sent.
 * - `ERR_TOO_LARGE` the message would not fit the transport; refused here.
 * - `ERR_INVALID_VALUE` a node does not hold what the schema says, see {@link XenstoreError.message}.
 * - `ERR_NO_XENSTORED` no xenstored was found on this machine.
 */
export type XenstoreErrorCode =
  | 'EINVAL'
  | 'EACCES'
  | 'EEXIST'
  | 'EISDIR'
  | 'ENOENT'
  | 'ENOMEM'
  | 'ENOSPC'
  | 'EIO'
  | 'ENOTEMPTY'
  | 'ENOSYS'
  | 'EROFS'
  | 'EBUSY'
  | 'EAGAIN'
  | 'EISCONN'
  | 'E2BIG'
  | 'EPERM'
  | 'EQUOTA'
  | 'ERR_CLOSED'
  | 'ERR_PROTOCOL'
  | 'ERR_INVALID_PATH'
  | 'ERR_INVALID_ARGUMENT'
  | 'ERR_INVALID_VALUE'
  | 'ERR_TOO_LARGE'
  | 'ERR_NO_XENSTORED'
  | (string & {});

const EXPLANATIONS: Record<string, string> = {
  EINVAL: 'invalid argument',
  EACCES: 'permission denied',
  EEXIST: 'exists already',
  ENOENT: 'no such node',
  ENOSPC: 'a quota of this domain is used up',
  ENOSYS: 'this xenstored does not know the operation',
  EBUSY: 'busy, or too many open transactions',
  EAGAIN: 'the transaction conflicts with another change',
  E2BIG: 'too large',
  EPERM: 'not permitted',
  EQUOTA: 'a quota of this domain is used up',
  EISCONN: 'the domain is introduced already',
};

/** An operation on xenstore that failed. */
export class XenstoreError extends Error {
  override readonly name = 'XenstoreError';
  readonly code: XenstoreErrorCode;
  /** The operation: `read`, `write`, `connect`. */
  readonly op: string;
  /** The node, where there is one. */
  readonly path: string | undefined;

  constructor(
    code: XenstoreErrorCode,
    op: string,
    path?: string,
    options: { message?: string | undefined; cause?: unknown } = {},
  ) {
    const reason = options.message ?? EXPLANATIONS[code];
    const where = path === undefined ? '' : ` ${path}`;
    const text = `xenstore ${op}${where}: ${code}${reason === undefined ? '' : `, ${reason}`}`;
    super(text, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.op = op;
    this.path = path;
  }
}

/** Whether `error` is a {@link XenstoreError}, and, when codes are given, has one of them. */
export function isXenstoreError(error: unknown, ...codes: XenstoreErrorCode[]): error is XenstoreError {
  return error instanceof XenstoreError && (codes.length === 0 || codes.includes(error.code));
}
