/**
 * - `EINVAL` the toolstack wrote something that cannot be meant.
 * - `EEXIST` there is such a device already.
 * - `ETIMEDOUT` the other end, or a handler, did not answer in time.
 * - `ERR_DOMID` which domain this is cannot be told.
 * - `ERR_HANDSHAKE` a frontend's connection did not come about.
 * - `ERR_CLOSED` the connection to xenstored was closed under a bus, or a device is not connected any more.
 * - `ERR_INTERRUPTED` the reason of a signal that a handler got: its call is not wanted any more.
 * - `ERR_STALE` the device changed since it was looked at; never seen outside of this package.
 */
export type XenbusErrorCode =
  | 'EINVAL'
  | 'EEXIST'
  | 'ETIMEDOUT'
  | 'ERR_DOMID'
  | 'ERR_HANDSHAKE'
  | 'ERR_CLOSED'
  | 'ERR_INTERRUPTED'
  | 'ERR_STALE';

/** On every XenbusError, whichever copy of this package it comes from: ES modules, CommonJS, another version. */
const BRAND = Symbol.for('@xenpv/xenbus.XenbusError');

/** Why a device cannot be served or changed. Its text is what the toolstack and the operator read in the error node. */
export class XenbusError extends Error {
  /** The same in every copy of this package, for logs. */
  override readonly name = 'XenbusError';
  /** What programs tell errors apart by. It is also the first word of the device's error node. */
  readonly code: XenbusErrorCode;
  /**
   * What was tried: `start`, `discover`, `prepare`, `connect`, `map`, `bind`, `disconnect`, `interrupt`, `stop`,
   * `publish`, `createDevice`, `removeDevice`.
   */
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

  static {
    Object.defineProperty(XenbusError.prototype, BRAND, { value: true });
  }

  /** Holds for the errors of every copy of this package; for a class derived from this one, as usual. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: derived classes inherit this method.
    if (this !== XenbusError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return value instanceof Error && BRAND in value;
  }
}

/** The errno name of any error, `EIO` if it has none. */
export function errorCode(error: unknown): string {
  const code = error instanceof Object && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : 'EIO';
}

/** The text of anything that was thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Controls (C0, DEL, C1), invisible formats (bidi controls among them), line and paragraph separators, and halves of
 * surrogate pairs.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

const SHORT: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/**
 * The text with every character that a terminal, a log or a person could take for something else written as JSON
 * escapes it. What a guest or a toolstack wrote goes through here on its way to any of them. The escapes are valid
 * inside of JSON's strings too.
 */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, escapeCharacter);
}

function escapeCharacter(character: string): string {
  const units = Array.from({ length: character.length }, (_, index) => character.charCodeAt(index));
  return SHORT[character] ?? units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
}
