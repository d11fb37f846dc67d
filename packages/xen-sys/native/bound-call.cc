#include "bound-call.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "control.h"
#include "typed-memory.h"
#include "uv-poll.h"

namespace {

/** The file, the event loop, and a few others. */
constexpr uint32_t kMaxSleepFiles = 16;

struct BoundIoctl {
  SharedFile file;
  uint32_t request;
  void* argument;
  Napi::ObjectReference keep;

  int Run() const {
    int result = Control(*file, request, argument);
    return result < 0 ? -errno : result;
  }
};

/** Milliseconds on a clock that costs no system call where others do. */
int64_t CoarseMilliseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct BoundSleep {
  SharedFile file;
  uv_loop_s* loop;
  TypedMemory control, write_from, read_to, eventfds;
  Napi::ObjectReference keep[4];
  /** When the event loop last had its turn, on the coarse clock, in milliseconds. */
  int64_t awake_since = 0;

  int Run() {
    // poll(2) would pass over a closed one.
    if (*file < 0) return *file;
    const int32_t* words = static_cast<int32_t*>(control.data);
    uint32_t bytes = std::min(static_cast<uint32_t>(words[kSleepWriteBytes]), static_cast<uint32_t>(write_from.bytes));
    if (bytes > 0 && write(*file, write_from.data, bytes) < 0) return -errno;
    int64_t now = CoarseMilliseconds();
    if (words[kSleepFirst] != 0) awake_since = now;
    int64_t timeout = uv_backend_timeout(loop);
    // The loop's own clock stands still meanwhile.
    if (timeout > 0) timeout = std::max<int64_t>(0, timeout - (now - awake_since));
    if (timeout == 0) return -EAGAIN;
    int64_t limit = words[kSleepMicroseconds];
    bool limited = limit >= 0 && (timeout < 0 || limit < timeout * 1000);
    return Wait(limited ? limit : timeout * 1000, limited);
  }

  /** `limited`: the limit is the caller's, not the event loop's. */
  int Wait(int64_t microseconds, bool limited) {
    const int32_t* fds = static_cast<int32_t*>(eventfds.data);
    uint32_t wanted = static_cast<uint32_t>(static_cast<int32_t*>(control.data)[kSleepEventfds]);
    uint32_t count = std::min({wanted, static_cast<uint32_t>(eventfds.bytes / sizeof(int32_t)), kMaxSleepFiles - 2});
    pollfd files[kMaxSleepFiles] = {{*file, POLLIN, 0}, {uv_backend_fd(loop), POLLIN, 0}};
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
  napi_value result = nullptr;
  napi_create_int32(env, static_cast<Bound*>(data)->Run(), &result);
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

Napi::Value BindIoctl(const Napi::CallbackInfo& info, const SharedFile& file) {
  TypedMemory memory(info[1]);
  if (memory.data == nullptr) return info.Env().Undefined();
  uint32_t request = info[0].As<Napi::Number>().Uint32Value();
  auto* bound = new BoundIoctl{file, request, memory.data, Napi::Persistent(info[1].As<Napi::Object>())};
  return Own(info.Env(), "boundIoctl", bound);
}

Napi::Value BindSleep(const Napi::CallbackInfo& info, const SharedFile& file) {
  Napi::Env env = info.Env();
  uv_loop_s* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return env.Undefined();
  auto* bound = new BoundSleep{
      file, loop, TypedMemory(info[0]), TypedMemory(info[1]), TypedMemory(info[2]), TypedMemory(info[3]), {}, 0};
  for (size_t i = 0; i < 4; i++) bound->keep[i] = Napi::Persistent(info[i].As<Napi::Object>());
  return Own(env, "boundSleep", bound);
}
