#include "bound-call.h"

#include <linux/ioctl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "control.h"
#include "loop-time.h"

namespace {

/** The file, the event loop, and a few others. */
constexpr uint32_t kMaxSleepFiles = 16;

/** Arrays that are used again and again, and what keeps them. */
template <size_t count>
struct KeptArrays {
  /** The arrays are the arguments from `first` on. */
  KeptArrays(const Napi::CallbackInfo& info, size_t first) {
    for (size_t i = 0; i < count; i++) {
      buffers[i] = Napi::Persistent(TypedMemory(info[first + i]).buffer.As<Napi::Object>());
    }
  }

  /** False once one of them is no longer where it was. */
  bool AreAttached(napi_env env) const {
    for (const auto& buffer : buffers) {
      if (TypedMemory::IsDetached(env, buffer.Value())) return false;
    }
    return true;
  }

  Napi::ObjectReference buffers[count];
};

struct BoundIoctl {
  SharedFile file;
  uint32_t request;
  void* argument;
  KeptArrays<1> arrays;

  int Run() const {
    int result = Control(*file, request, argument);
    return result < 0 ? -errno : result;
  }
};

struct BoundSleep {
  SharedFile file;
  LoopTime time;
  TypedMemory control, write_from, read_to, eventfds;
  KeptArrays<4> arrays;

  int Run() {
    // poll(2) would pass over a closed one.
    if (*file < 0) return *file;
    const int32_t* words = static_cast<int32_t*>(control.data);
    uint32_t bytes = std::min(static_cast<uint32_t>(words[kSleepWriteBytes]), static_cast<uint32_t>(write_from.bytes));
    if (bytes > 0 && write(*file, write_from.data, bytes) < 0) return -errno;
    LoopTime::Span span = time.Next(words[kSleepFirst] != 0, words[kSleepMicroseconds]);
    return span.microseconds == 0 && !span.limited ? -EAGAIN : Wait(span.microseconds, span.limited);
  }

  /** `limited`: the limit is the caller's, not the event loop's. */
  int Wait(int64_t microseconds, bool limited) {
    const int32_t* fds = static_cast<int32_t*>(eventfds.data);
    uint32_t wanted = static_cast<uint32_t>(static_cast<int32_t*>(control.data)[kSleepEventfds]);
    uint32_t count = std::min({wanted, static_cast<uint32_t>(eventfds.bytes / sizeof(int32_t)), kMaxSleepFiles - 2});
    pollfd files[kMaxSleepFiles] = {{*file, POLLIN, 0}, {time.descriptor(), POLLIN, 0}};
    for (uint32_t i = 0; i < count; i++) files[2 + i] = {fds[i], POLLIN, 0};
    timespec span = {microseconds / 1000000, microseconds % 1000000 * 1000};
    int ready = ppoll(files, 2 + count, microseconds < 0 ? nullptr : &span, nullptr);
    if (ready == 0 && limited) return -ETIME;
    if (ready > 0 && (files[0].revents & POLLIN) != 0) {
      ssize_t length = read(*file, read_to.data, read_to.bytes);
      return length < 0 ? -errno : static_cast<int>(length);
    }
    bool fired = false;
    for (uint32_t i = 0; i < count && ready > 0; i++) {
      eventfd_t value;
      if ((files[2 + i].revents & POLLIN) != 0) fired = eventfd_read(files[2 + i].fd, &value) == 0 || fired;
    }
    return fired ? 0 : -EAGAIN;
  }
};

template <typename Bound>
napi_value Call(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  auto* bound = static_cast<Bound*>(data);
  napi_value result = nullptr;
  napi_create_int32(env, bound->arrays.AreAttached(env) ? bound->Run() : -EFAULT, &result);
  return result;
}

/** A function that runs `bound` and owns it. */
template <typename Bound>
Napi::Value Own(napi_env env, const char* name, Bound* bound) {
  napi_value function = nullptr;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, Call<Bound>, bound, &function);
  auto release = [](napi_env, void* data, void*) { delete static_cast<Bound*>(data); };
  napi_add_finalizer(env, function, bound, release, nullptr, nullptr);
  return Napi::Value(env, function);
}

}  // namespace

TypedMemory RequestMemory(Arguments& given, uint32_t request) {
  TypedMemory memory = given.Memory(1, "argument");
  size_t bytes = _IOC_SIZE(request);
  if (bytes == 0) given.RefuseRange("request", "does not say how long its argument is");
  if (memory.bytes < bytes) {
    given.RefuseRange("argument", "has " + std::to_string(memory.bytes) + " bytes; the request takes " + std::to_string(bytes));
  }
  return memory;
}

Napi::Value BindIoctl(const Napi::CallbackInfo& info, const SharedFile& file) {
  Arguments given(info, "bindIoctl");
  uint32_t request = given.Uint32(0, "request");
  TypedMemory memory = RequestMemory(given, request);
  if (given.refused()) return info.Env().Undefined();
  auto* bound = new BoundIoctl{file, request, memory.data, KeptArrays<1>(info, 1)};
  return Own(info.Env(), "boundIoctl", bound);
}

Napi::Value BindSleep(const Napi::CallbackInfo& info, const SharedFile& file) {
  Napi::Env env = info.Env();
  Arguments given(info, "bindSleep");
  TypedMemory control = given.Array(0, "control", napi_int32_array, "an Int32Array", kSleepWords);
  TypedMemory write_from = given.Memory(1, "write");
  TypedMemory read_to = given.Memory(2, "into");
  TypedMemory eventfds = given.Array(3, "eventfds", napi_int32_array, "an Int32Array", 0);
  uv_loop_s* loop = nullptr;
  if (given.refused() || napi_get_uv_event_loop(env, &loop) != napi_ok) return env.Undefined();
  auto* bound = new BoundSleep{file, LoopTime(loop), control, write_from, read_to, eventfds, KeptArrays<4>(info, 0)};
  return Own(env, "boundSleep", bound);
}
