/** An image that could not be opened or used. Operations on a queue give negative errno numbers instead. */
export class BlockDeviceError extends Error {
  override readonly name = 'BlockDeviceError';
  /** An errno name (`ENOENT`, `EACCES`, `EISDIR`) or ERR_… (each function that throws names its own). */
  readonly code: string;
  readonly op: string;
  readonly path: string | undefined;

  constructor(code: string, op: string, message: string, options: { path?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.op = op;
    this.path = options.path;
  }
}
