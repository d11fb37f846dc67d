/** ERR_ENDED: the peer is gone. ERR_PROTOCOL: it does not speak NBD. ERR_REFUSED: it does not give the export. */
export type NbdErrorCode = 'ERR_ENDED' | 'ERR_PROTOCOL' | 'ERR_REFUSED';

/** What was tried: `read` is a server's wait for bytes of its client. */
export type NbdErrorOp = 'connect' | 'negotiate' | 'transmit' | 'read';

/** On every NbdError, whichever copy of this package it comes from: ES modules, CommonJS, another version. */
const BRAND = Symbol.for('@xenpv/nbd.NbdError');

/** A conversation that cannot go on. Failed requests are answered with an NBD errno instead. */
export class NbdError extends Error {
  /** Always the class's name, also in bundles that rename classes. */
  override readonly name = 'NbdError';
  /** What to switch on: the message is for people, and may change. */
  readonly code: NbdErrorCode;
  /** How far the conversation had come. */
  readonly op: NbdErrorOp;
  /** The socket's path, where whoever made the error knew it. */
  readonly path: string | undefined;

  constructor(
    code: NbdErrorCode,
    op: NbdErrorOp,
    message: string,
    options: { readonly path?: string | undefined; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.op = op;
    this.path = options.path;
  }

  static {
    Object.defineProperty(NbdError.prototype, BRAND, { value: true });
  }

  /** Holds for the errors of every copy of this package; for a class derived from this one, as usual. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: derived classes inherit this method.
    if (this !== NbdError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return value instanceof Error && BRAND in value;
  }
}
