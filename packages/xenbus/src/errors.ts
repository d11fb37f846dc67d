/**
 * - `EINVAL` the toolstack wrote something that cannot be meant.
 * - `EEXIST` there is such a device already.
 * - `ETIMEDOUT` the other end, or a handler, did not answer in time.
 * - `ERR_DOMID` which domain this is cannot be told.
 * - `ERR_CLOSED` the connection to xenstored was closed under a bus.
 * - `ERR_INTERRUPTED` the reason of a signal that a handler got: its call is not wanted any more.
 * - `ERR_STALE` the device changed since it was looked at; never seen outside of this package.
 */
export type XenbusErrorCode =
  | 'EINVAL'
  | 'EEXIST'
  | 'ETIMEDOUT'
  | 'ERR_DOMID'
  | 'ERR_CLOSED'
  | 'ERR_INTERRUPTED'
  | 'ERR_STALE';

/** Why a device cannot be served or changed. Its text is what the toolstack and the operator read in the error node. */
export class XenbusError extends Error {
  override readonly name = 'XenbusError';
  readonly code: XenbusErrorCode;
  /** What was tried: `start`, `discover`, `prepare`, `connect`, `stop`, `publish`, `createDevice`, `removeDevice`. */
  readonly op: string;
  /** The xenstore path at fault, where there is one. */
  readonly path: string | undefined;

  constructor(
    code: XenbusErrorCode,
    op: string,
    message: string,
    options: { readonly path?: string | undefined; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.op = op;
    this.path = options.path;
  }
}

/** The errno name of any error, `EIO` if it has none. */
export function errorCode(error: unknown): string {
  const code = error instanceof Object && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : 'EIO';
}

export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
