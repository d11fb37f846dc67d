#include "futex.h"

#include <linux/futex.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <ctime>

#include "arguments.h"

namespace {

/** The longest sleep, some thirty years, which a timespec has everywhere. */
constexpr double kMaxMilliseconds = 1e12;

/** The word that the first two arguments name. */
int32_t* WordOf(Arguments& given) {
  TypedMemory words = given.Array(0, "words", napi_int32_array, "an Int32Array", 1);
  int64_t last = given.refused() ? 0 : static_cast<int64_t>(words.length) - 1;
  int64_t index = given.Whole(1, "index", 0, last);
  return static_cast<int32_t*>(words.data) + index;
}

long Futex(int32_t* word, int operation, int32_t value, const timespec* timeout) {
  return syscall(SYS_futex, word, operation, value, timeout, nullptr, 0);
}

Napi::Value Result(Napi::Env env, long result) {
  return Napi::Number::New(env, result < 0 ? -errno : static_cast<double>(result));
}

}  // namespace

Napi::Value FutexWait(const Napi::CallbackInfo& info) {
  Arguments given(info, "futexWait");
  int32_t* word = WordOf(given);
  int32_t expected = given.Int32(2, "expected");
  double milliseconds = std::min(given.Number(3, "milliseconds"), kMaxMilliseconds);
  if (given.refused()) return info.Env().Undefined();
  if (!(milliseconds > 0)) return Napi::Number::New(info.Env(), -ETIMEDOUT);
  timespec timeout = {static_cast<time_t>(milliseconds / 1000), 0};
  timeout.tv_nsec = static_cast<long>((milliseconds - static_cast<double>(timeout.tv_sec) * 1000) * 1e6);
  return Result(info.Env(), Futex(word, FUTEX_WAIT, expected, &timeout));
}

Napi::Value FutexWake(const Napi::CallbackInfo& info) {
  Arguments given(info, "futexWake");
  int32_t* word = WordOf(given);
  int32_t count = given.Int32(2, "count");
  if (given.refused()) return info.Env().Undefined();
  return Result(info.Env(), Futex(word, FUTEX_WAKE, count, nullptr));
}

Napi::Value MakeFifo(const Napi::CallbackInfo& info) {
  Arguments given(info, "makeFifo");
  std::string path = given.Path(0, "path");
  if (given.refused()) return info.Env().Undefined();
  return Result(info.Env(), mkfifo(path.c_str(), 0600));
}
