/** What the toolstack could not do. */
export type ToolstackErrorCode =
  /** No such domain. */
  | 'ERR_NO_DOMAIN'
  /** The domain or the device is there already. */
  | 'ERR_EXISTS'
  /** Not a virtual device name of xen-vbd-interface(7). */
  | 'ERR_VDEV'
  /** The domain has no such device. */
  | 'ERR_NO_DEVICE'
  /** The backend did not do its part in time. */
  | 'ERR_TIMEOUT'
  /** No emulated host answers. */
  | 'ERR_HOST'
  /** A host was asked for something that it does not know. */
  | 'ERR_COMMAND'
  /** A host met another error, such as one of xenstore: the `cause` has its `code`, if it had one. */
  | 'ERR_FAILED';

/** All of them; the type says that none is missing. */
const CODES: Readonly<Record<ToolstackErrorCode, true>> = {
  ERR_NO_DOMAIN: true,
  ERR_EXISTS: true,
  ERR_VDEV: true,
  ERR_NO_DEVICE: true,
  ERR_TIMEOUT: true,
  ERR_HOST: true,
  ERR_COMMAND: true,
  ERR_FAILED: true,
};

/** Whether a code that came from elsewhere is one of a ToolstackError. */
export function isToolstackErrorCode(code: string): code is ToolstackErrorCode {
  return Object.hasOwn(CODES, code);
}

/** On every ToolstackError, whichever copy of this package it comes from: ES modules, CommonJS, another version. */
const BRAND = Symbol.for('@xenpv/emulator.ToolstackError');

/** An operation of the toolstack that failed. */
export class ToolstackError extends Error {
  /** The same for all; `instanceof` also knows the errors of another copy of this package. */
  override readonly name = 'ToolstackError';
  /** What went wrong; what nobody here knows is `ERR_FAILED`, and `cause` has its own. */
  readonly code: ToolstackErrorCode;
  /** The operation: `attachDisk`. */
  readonly op: string;
  /** The xenstore path, or the socket of a host, that it was about; undefined where there is none. */
  readonly path: string | undefined;

  constructor(
    code: ToolstackErrorCode,
    op: string,
    message: string,
    options: { readonly path?: string | undefined; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.op = op;
    this.path = options.path;
  }

  static {
    Object.defineProperty(ToolstackError.prototype, BRAND, { value: true });
  }

  /** Holds for the errors of every copy of this package; for a class derived from this one, as usual. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: derived classes inherit this method.
    if (this !== ToolstackError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return value instanceof Error && BRAND in value;
  }
}
