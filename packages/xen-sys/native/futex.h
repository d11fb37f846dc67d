#pragma once

#include <napi.h>

/**
 * futexWait(words: Int32Array, index, expected, milliseconds): sleeps while the word has the expected value, until
 * {@link FutexWake} or for that long. 0, or -EAGAIN (another value), -ETIMEDOUT, -EINTR. What Atomics.wait does for a
 * SharedArrayBuffer, for memory that processes share.
 */
Napi::Value FutexWait(const Napi::CallbackInfo& info);

/** futexWake(words: Int32Array, index, count): wakes up to so many sleepers of any process; how many, or a negative errno. */
Napi::Value FutexWake(const Napi::CallbackInfo& info);

/** makeFifo(path): a named pipe that only its owner may use. 0 or a negative errno. */
Napi::Value MakeFifo(const Napi::CallbackInfo& info);
