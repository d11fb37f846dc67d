import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { XenSysError } from '../errors.js';

/** Errnos that are told apart. */
export const { EACCES, EINTR, EINVAL, ENOTCONN } = constants.errno;

/** The name of an errno, positive or negative: `ENOENT`. */
export function errnoName(errno: number): string {
  try {
    return getSystemErrorName(-Math.abs(errno));
  } catch {
    return `E${Math.abs(errno)}`;
  }
}

/** The error of an operation that returned a negative errno. */
export function errnoError(result: number, op: string, path: string, about = ''): XenSysError {
  const code = errnoName(result);
  return new XenSysError(code, op, `${op}${about && ` ${about}`}: ${code} (${path})`, { errno: -result, path });
}
