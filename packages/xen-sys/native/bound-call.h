#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>

#include "arguments.h"

/** The file of a descriptor, which functions bound to it share: -EBADF once it is closed. */
using SharedFile = std::shared_ptr<int>;

/**
 * bindIoctl(request, typedArray): a JavaScript function without arguments that makes this ioctl with the array's memory
 * as its argument and returns 0 or more, or a negative errno. It finds neither an object nor an array each time, which
 * takes longer than the shortest system calls. -EFAULT once the array's buffer is detached.
 */
Napi::Value BindIoctl(const Napi::CallbackInfo& info, const SharedFile& file);

/**
 * The argument `memory` of an ioctl. The request says how many bytes the kernel reads and writes, so the array must have
 * as many; one that does not say is refused.
 */
TypedMemory RequestMemory(Arguments& given, uint32_t request);

/** The words of the array that a bound sleep goes by. */
enum SleepWord : uint32_t {
  /** Bytes to write first, from the array for that: ports to unmask. */
  kSleepWriteBytes,
  /** How many of the eventfds count. */
  kSleepEventfds,
  /** 1 when the event loop has just had its turn. */
  kSleepFirst,
  /** The most to sleep; negative for no limit. */
  kSleepMicroseconds,
  kSleepWords,
};

/**
 * bindSleep(control: Int32Array, write: typedArray, read: typedArray, eventfds: Int32Array): a function without
 * arguments that writes to the file what it has to, and then sleeps for as long as the event loop has nothing to do, or
 * for the time that control says. Returns the bytes of one read(2) once the file is readable; 0 when one of the eventfds
 * fired, which resets it; -ETIME when the time is over; -EAGAIN when it is the event loop's turn; -EFAULT once the buffer
 * of one of the arrays is detached.
 */
Napi::Value BindSleep(const Napi::CallbackInfo& info, const SharedFile& file);
