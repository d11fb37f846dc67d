import { XenstoreError, type XenstoreErrorCode } from '@xenpv/xenstore';

/** What xenstored answers because of what was asked: asking again gets the same answer. */
const ANSWERS: readonly XenstoreErrorCode[] = [
  'ENOENT',
  'EACCES',
  'EPERM',
  'EINVAL',
  'EEXIST',
  'EISDIR',
  'ENOTEMPTY',
  'ENOSYS',
  'ERR_INVALID_PATH',
  'ERR_INVALID_ARGUMENT',
  'ERR_INVALID_VALUE',
  'ERR_TOO_LARGE',
];

/**
 * Whether an error, or a cause of it, is a trouble of xenstored or of the way to it: a lost connection, EIO, a quota,
 * too many conflicts. It says nothing of the device or of its frontend, and the same may work later.
 */
export function isXenstoreTrouble(error: unknown): boolean {
  let cause = error;
  for (let depth = 0; depth < 8 && cause instanceof Error; depth++) {
    if (cause instanceof XenstoreError) return !ANSWERS.includes(cause.code);
    cause = cause.cause;
  }
  return false;
}
