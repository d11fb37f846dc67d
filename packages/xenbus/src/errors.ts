/** Why a device cannot be served. Its text is what the toolstack and the operator read in the error node. */
export class XenbusError extends Error {
  override readonly name = 'XenbusError';
  /** An errno name (`EINVAL`, `ENOENT`, `EACCES`) or ERR_STALE. */
  readonly code: string;
  /** The xenstore path at fault, where there is one. */
  readonly path: string | undefined;

  constructor(code: string, message: string, options: { path?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.path = options.path;
  }
}

/** The errno name of any error, `EIO` when it has none. */
export function errorCode(error: unknown): string {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : 'EIO';
}

export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
