import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';
import { Errno } from './errno.js';

type OwnCode =
  | 'ERR_NO_LIBRARY'
  | 'ERR_NO_DEVICE'
  | 'ERR_NOT_LINUX'
  | 'ERR_NO_ADDON'
  | 'ERR_ADDON_LOAD'
  | 'ERR_NO_XENSTORE'
  | 'ERR_CLOSED'
  | 'ERR_NOT_CONTIGUOUS';

/** The name of an errno: `EINVAL`. */
export type ErrnoName = keyof typeof constants.errno;

/** What went wrong below a provider: an errno's name, or one of ours for what no errno says. */
export type XenSysErrorCode = OwnCode | ErrnoName;

/** Optional parts of a {@link XenSysError}. */
export interface XenSysErrorOptions {
  /** The device, socket, file or library that the operation was about. */
  readonly path?: string | undefined;
  /** The error underneath, which becomes the standard `cause`. */
  readonly cause?: unknown;
  /** Positive; if not given, that of a `code` which {@link Errno} has. */
  readonly errno?: number | undefined;
}

/** On every XenSysError, whichever copy of this package it comes from: ES modules, CommonJS, another version. */
const BRAND = Symbol.for('@xenpv/xen-sys.XenSysError');

/** An operation of a provider that failed. Hot-path operations return negative errno numbers instead. */
export class XenSysError extends Error {
  /** The same for all; `instanceof` also knows the errors of another copy of this package. */
  override readonly name = 'XenSysError';
  /** `EINVAL` and the like, whoever refused; `ERR_…` where something is missing, closed or of the wrong shape. */
  readonly code: XenSysErrorCode;
  /** The operation, spelled as in the interface: `evtchn.bindInterdomain`, `gnttab.map`. */
  readonly op: string;
  /** The errno, positive, where the kernel or the hypervisor gave one. */
  readonly errno: number | undefined;
  /** The device, socket, file or library it was done on; undefined where there is none. */
  readonly path: string | undefined;

  constructor(code: XenSysErrorCode, op: string, message: string, options: XenSysErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.op = op;
    this.errno = options.errno ?? errnoOf(code);
    this.path = options.path;
  }

  static {
    Object.defineProperty(XenSysError.prototype, BRAND, { value: true });
  }

  /** Holds for the errors of every copy of this package; for a class derived from this one, as usual. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: derived classes inherit this method.
    if (this !== XenSysError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return value instanceof Error && BRAND in value;
  }
}

/** The name of a negative errno: `ENOENT`. */
export function errnoName(errno: number): ErrnoName {
  // libuv has names for the most usual ones only.
  const name = getSystemErrorMap().get(errno)?.[0] ?? nameOf(errno) ?? `E${-errno}`;
  return name as ErrnoName;
}

function nameOf(errno: number): string | undefined {
  return Object.keys(constants.errno).find((name) => Reflect.get(constants.errno, name) === -errno);
}

/** The error of an operation that returned a negative errno. */
export function errnoError(result: number, op: string, path: string, about = ''): XenSysError {
  const code = errnoName(result);
  return new XenSysError(code, op, `${op}${about && ` ${about}`}: ${code} (${path})`, { errno: -result, path });
}

function errnoOf(code: XenSysErrorCode): number | undefined {
  return code in Errno ? -Errno[code as keyof typeof Errno] : undefined;
}
