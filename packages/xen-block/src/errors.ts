/** A disk that cannot be served as it is configured or negotiated. Its text is what the error node says. */
export class XenBlockError extends Error {
  override readonly name = 'XenBlockError';
  /** An errno name (`EINVAL`, `ENOENT`), or one that the layer below gave. */
  readonly code: string;
  /** `prepare`, `connect`, `change`. */
  readonly op: string;
  /** The xenstore path or the image at fault, where there is one. */
  readonly path: string | undefined;

  constructor(code: string, op: string, message: string, options: { path?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.op = op;
    this.path = options.path;
  }
}
