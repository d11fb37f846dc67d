import { loadAddon } from '../addon/addon.js';

/**
 * Blocks this thread while `words[index]` is `expected`, until {@link futexWake} by any process or for `milliseconds`.
 * For memory that processes share ({@link mapSharedFile}), as Atomics.wait is for that of threads. Returns 0 when woken,
 * else -EAGAIN (it has another value), -ETIMEDOUT or -EINTR (futex(2)). Errors: ERR_NO_ADDON; RangeError for an index
 * outside of the array.
 */
export function futexWait(words: Int32Array, index: number, expected: number, milliseconds: number): number {
  return loadAddon().futexWait(words, index, expected, milliseconds);
}

/** Wakes up to `count` threads of any process that wait for `words[index]`; returns how many. Error: ERR_NO_ADDON. */
export function futexWake(words: Int32Array, index: number, count = 1): number {
  return loadAddon().futexWake(words, index, count);
}
