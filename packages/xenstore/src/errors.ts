/**
 * Why an operation failed: the daemon's own word for it (an errno name of xs_wire.h), or one of ours.
 *
 * - `ERR_CLOSED` the connection is closed or broke; everything that was pending got this.
 * - `ERR_PROTOCOL` the other end sent what the protocol does not allow; the connection is given up.
 * - `ERR_INVALID_PATH`, `ERR_INVALID_ARGUMENT` refused here, before anything was sent.
 * - `ERR_TOO_LARGE` the message would not fit the transport; refused here.
 * - `ERR_INVALID_VALUE` a node does not hold what the schema says, the message tells text and what was expected.
 * - `ERR_NO_XENSTORED` no xenstored was found on this machine.
 * - `ERR_REFUSED` the daemon refused, with a word that is none of these; the message quotes it.
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
  | 'ERR_REFUSED';

/** The daemon's words that are codes here, and what each means where the word does not say it. */
const EXPLANATIONS: { readonly [Code in Exclude<XenstoreErrorCode, `ERR_${string}`>]: string } = {
  EINVAL: 'invalid argument',
  EACCES: 'permission denied',
  EEXIST: 'exists already',
  EISDIR: '',
  ENOENT: 'no such node',
  ENOMEM: 'the daemon has no memory for it',
  EIO: '',
  ENOTEMPTY: '',
  EROFS: '',
  ENOSPC: 'a quota of this domain is used up',
  ENOSYS: 'this xenstored does not know the operation',
  EBUSY: 'busy, or too many open transactions',
  EAGAIN: 'the transaction conflicts with another change',
  E2BIG: 'too large',
  EPERM: 'not permitted',
  EQUOTA: 'a quota of this domain is used up',
  EISCONN: 'the domain is introduced already',
};

/** On every XenstoreError, whichever copy of this package it comes from: ES modules, CommonJS, another version. */
const BRAND = Symbol.for('@xenpv/xenstore.XenstoreError');

/** An operation on xenstore that failed. */
export class XenstoreError extends Error {
  /** The same in every copy of this package, for logs. */
  override readonly name = 'XenstoreError';
  /** What programs tell errors apart by. */
  readonly code: XenstoreErrorCode;
  /** The operation: `read`, `write`, `connect`. */
  readonly op: string;
  /** The node, where there is one. */
  readonly path: string | undefined;

  /** `message` is the reason; the error's own tells operation, path and code before it. */
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

  static {
    Object.defineProperty(XenstoreError.prototype, BRAND, { value: true });
  }

  /** Holds for the errors of every copy of this package; for a class derived from this one, as usual. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: derived classes inherit this method.
    if (this !== XenstoreError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return value instanceof Error && BRAND in value;
  }
}

/** What the daemon refused, by its own word for it: an errno name, which may be one that nobody here knows. */
export function refusedByDaemon(word: string, op: string, path: string | undefined): XenstoreError {
  if (isKnown(word)) return new XenstoreError(word, op, EXPLANATIONS[word], { path });
  return new XenstoreError('ERR_REFUSED', op, `the daemon says ${quoted(word)}`, { path });
}

function isKnown(word: string): word is keyof typeof EXPLANATIONS {
  return Object.hasOwn(EXPLANATIONS, word);
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
