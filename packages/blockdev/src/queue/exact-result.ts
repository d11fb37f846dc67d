import { Errno } from './errno.js';

/** Larger ones are none. */
const MAX_ERRNO = 4095;

/**
 * What an operation ended with, whatever its engine says: `expected` bytes (0 without data), or a negative errno. Any
 * other result is -EIO: too few bytes, too many, a number that is no errno. What is left in memory after such a read may
 * be somebody else's. Everybody who takes results of a queue takes them through here.
 */
export function exactResult(expected: number, result: number): number {
  return result === expected || (result < 0 && result >= -MAX_ERRNO) ? result : Errno.EIO;
}
