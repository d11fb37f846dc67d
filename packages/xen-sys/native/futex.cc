#include "futex.h"

#include <linux/futex.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <ctime>

#include "typed-memory.h"

namespace {

/** The word `info[1]` of the array `info[0]`, or null. */
int32_t* WordOf(const Napi::CallbackInfo& info) {
  TypedMemory memory(info[0]);
  size_t index = info[1].As<Napi::Number>().Uint32Value();
  if (memory.data == nullptr || (index + 1) * sizeof(int32_t) > memory.bytes) return nullptr;
  return static_cast<int32_t*>(memory.data) + index;
}

long Futex(int32_t* word, int operation, int32_t value, const timespec* timeout) {
  return syscall(SYS_futex, word, operation, value, timeout, nullptr, 0);
}

Napi::Value Result(Napi::Env env, long result) {
  return Napi::Number::New(env, result < 0 ? -errno : static_cast<double>(result));
}

}  // namespace

Napi::Value FutexWait(const Napi::CallbackInfo& info) {
  int32_t* word = WordOf(info);
  if (word == nullptr) return Napi::Number::New(info.Env(), -EINVAL);
  double milliseconds = info[3].As<Napi::Number>();
  if (!(milliseconds > 0)) return Napi::Number::New(info.Env(), -ETIMEDOUT);
  timespec timeout = {static_cast<time_t>(milliseconds / 1000), 0};
  timeout.tv_nsec = static_cast<long>((milliseconds - static_cast<double>(timeout.tv_sec) * 1000) * 1e6);
  return Result(info.Env(), Futex(word, FUTEX_WAIT, info[2].As<Napi::Number>().Int32Value(), &timeout));
}

Napi::Value FutexWake(const Napi::CallbackInfo& info) {
  int32_t* word = WordOf(info);
  if (word == nullptr) return Napi::Number::New(info.Env(), -EINVAL);
  return Result(info.Env(), Futex(word, FUTEX_WAKE, info[2].As<Napi::Number>().Int32Value(), nullptr));
}

Napi::Value MakeFifo(const Napi::CallbackInfo& info) {
  std::string path = info[0].As<Napi::String>();
  return Result(info.Env(), mkfifo(path.c_str(), 0600));
}
