/**
 * `ERR_ALIGNMENT`, `ERR_RANGE`, `ERR_READ_ONLY`: refused here. `EIO`, `EOPNOTSUPP`: the backend's answer.
 * `ERR_HANDSHAKE`: no connection came about. `ERR_CLOSED`: closed, by us or by the backend.
 * `ERR_BACKEND`: the backend broke the protocol, nothing of it is trusted any more.
 */
export type BlkfrontErrorCode =
  | 'ERR_ALIGNMENT'
  | 'ERR_RANGE'
  | 'ERR_READ_ONLY'
  | 'ERR_HANDSHAKE'
  | 'ERR_CLOSED'
  | 'ERR_BACKEND'
  | 'EIO'
  | 'EOPNOTSUPP';

/** Optional parts of a {@link BlkfrontError}. */
export interface BlkfrontErrorOptions {
  /** The xenstore directory that is wrong. */
  readonly path?: string | undefined;
  /** The error of a lower layer that led to this one, for `Error.cause`. */
  readonly cause?: unknown;
}

/** On every BlkfrontError, whichever copy of this package it comes from: ES modules, CommonJS, another version. */
const BRAND = Symbol.for('@xenpv/blkfront.BlkfrontError');

/** A request or a connection of a {@link Blkfront} that failed. */
export class BlkfrontError extends Error {
  /** Always the class's name, also in bundles that rename classes. */
  override readonly name = 'BlkfrontError';
  /** What to switch on: the message is for people, and may change. */
  readonly code: BlkfrontErrorCode;
  /** What was asked: `read`, `write`, `flush`, `discard`, `load`, `connect`, `close`, or `ring` for all at once. */
  readonly op: string;
  /** The xenstore directory that is wrong, or undefined. */
  readonly path: string | undefined;

  constructor(code: BlkfrontErrorCode, op: string, message: string, options: BlkfrontErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.op = op;
    this.path = options.path;
  }

  static {
    Object.defineProperty(BlkfrontError.prototype, BRAND, { value: true });
  }

  /** Holds for the errors of every copy of this package; for a class derived from this one, as usual. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: derived classes inherit this method.
    if (this !== BlkfrontError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return value instanceof Error && BRAND in value;
  }
}
