/**
 * Why an operation failed: the daemon's own word for it (an errno name of xs_wire.h), or one of ours.
 *
 * - `ERR_CLOSED` the connection is closed or broke; everything that was pending got this.
 * - `ERR_PROTOCOL` the other end sent what the protocol does not allow; the connection is given up.
 * - `ERR_INVALID_PATH`, `ERR_INVALID_ARGUMENT` refused here, before anything was sent.
 * - `ERR_TOO_LARGE` the message would not fit the transport; refused here.
 * - `ERR_INVALID_VALUE` a node does not hold what the schema says, the message tells text and what was expected.
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
  | AnotherErrno;

/** Daemons may have words that this version does not know. */
type AnotherErrno = string & {};

const EXPLANATIONS: Readonly<Record<string, string>> = {
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

  /** `message` is the reason; {@link XenstoreError.message} tells operation, path and code before it. */
  constructor(
    code: XenstoreErrorCode,
    op: string,
    message: string,
    options: { readonly path?: string | undefined; readonly cause?: unknown } = {},
  ) {
    const { path, cause } = options;
    const where = path === undefined ? '' : ` ${path}`;
    const reason = message === '' ? '' : `, ${message}`;
    super(`xenstore ${op}${where}: ${code}${reason}`, cause === undefined ? undefined : { cause });
    this.code = code;
    this.op = op;
    this.path = path;
  }
}

/** What the daemon refused, by its own word for it: an errno name, which may be one that nobody here knows. */
export function refusedByDaemon(code: string, op: string, path: string | undefined): XenstoreError {
  return new XenstoreError(code, op, EXPLANATIONS[code] ?? '', { path });
}

/** Whether `error` is a {@link XenstoreError}, and, when codes are given, has one of them. */
export function isXenstoreError(error: unknown, ...codes: XenstoreErrorCode[]): error is XenstoreError {
  return error instanceof XenstoreError && (codes.length === 0 || codes.includes(error.code));
}

const LONGEST_QUOTE = 120;

/** Text that a guest may have written, fit for a message: kilobytes of anything become one short line. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > LONGEST_QUOTE ? `${text.slice(0, LONGEST_QUOTE - 3)}...` : text);
}
