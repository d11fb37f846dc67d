#include "descriptor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <time.h>

#include <algorithm>
#include <cerrno>

#include "typed-memory.h"
#include "uv-poll.h"

namespace {

/** What the kernel's interfaces for arrays take: a count and a pointer, as gntdev's grant copy does. */
struct ArrayArgument {
  uint32_t count;
  uint32_t padding;
  uint64_t address;
};

Napi::Value Result(Napi::Env env, long result) {
  return Napi::Number::New(env, result < 0 ? -errno : static_cast<double>(result));
}

/** Again while a signal interrupts. */
template <typename Argument>
int Control(int fd, uint32_t request, Argument* argument) {
  int result;
  do {
    result = ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result;
}

/** What sleep() watches at most: the file, the event loop, and a few others. */
constexpr uint32_t kMaxSleepFiles = 16;

/** Milliseconds on a clock that costs no system call where others do. */
int64_t CoarseMilliseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

Napi::Value Invalid(Napi::Env env) { return Napi::Number::New(env, -EINVAL); }

}  // namespace

Napi::Function Descriptor::Define(Napi::Env env) {
  return DefineClass(env, "Descriptor",
                     {
                         InstanceAccessor<&Descriptor::Fd>("fd"),
                         InstanceMethod<&Descriptor::Read>("read"),
                         InstanceMethod<&Descriptor::Write>("write"),
                         InstanceMethod<&Descriptor::Ioctl>("ioctl"),
                         InstanceMethod<&Descriptor::IoctlWord>("ioctlWord"),
                         InstanceMethod<&Descriptor::IoctlArray>("ioctlArray"),
                         InstanceMethod<&Descriptor::Reserve>("reserve"),
                         InstanceMethod<&Descriptor::Map>("map"),
                         InstanceMethod<&Descriptor::Unmap>("unmap"),
                         InstanceMethod<&Descriptor::Sleep>("sleep"),
                         InstanceMethod<&Descriptor::Listen>("listen"),
                         InstanceMethod<&Descriptor::KeepAlive>("keepAlive"),
                         InstanceMethod<&Descriptor::Close>("close"),
                     });
}

/** new Descriptor(path, flags): flags of open(2), close-on-exec is added; a file it creates is the owner's alone. */
Descriptor::Descriptor(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Descriptor>(info) {
  std::string path = info[0].As<Napi::String>();
  int flags = info[1].As<Napi::Number>();
  fd_ = open(path.c_str(), flags | O_CLOEXEC, 0600);
  if (fd_ < 0) fd_ = -errno;
}

Descriptor::~Descriptor() {
  if (poller_ != nullptr) poller_->Close();
  CloseFile();
}

Napi::Value Descriptor::Fd(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), fd_); }

/** read(typedArray): bytes read, 0 also when there is nothing to read now. */
Napi::Value Descriptor::Read(const Napi::CallbackInfo& info) {
  TypedMemory memory(info[0]);
  if (memory.data == nullptr) return Invalid(info.Env());
  ssize_t length = read(fd_, memory.data, memory.bytes);
  if (length < 0 && errno == EAGAIN) length = 0;
  return Result(info.Env(), length);
}

/** write(typedArray, bytes): one write(2). */
Napi::Value Descriptor::Write(const Napi::CallbackInfo& info) {
  TypedMemory memory(info[0]);
  size_t bytes = info[1].As<Napi::Number>().Uint32Value();
  if (memory.data == nullptr || bytes > memory.bytes) return Invalid(info.Env());
  return Result(info.Env(), write(fd_, memory.data, bytes));
}

/** ioctl(request, typedArray): the array is the argument structure, in and out. */
Napi::Value Descriptor::Ioctl(const Napi::CallbackInfo& info) {
  TypedMemory memory(info[1]);
  if (memory.data == nullptr) return Invalid(info.Env());
  return Result(info.Env(), Control(fd_, info[0].As<Napi::Number>().Uint32Value(), memory.data));
}

/** ioctlWord(request, word): the argument structure is one 32-bit word. */
Napi::Value Descriptor::IoctlWord(const Napi::CallbackInfo& info) {
  uint32_t word = info[1].As<Napi::Number>().Uint32Value();
  return Result(info.Env(), Control(fd_, info[0].As<Napi::Number>().Uint32Value(), &word));
}

/** ioctlArray(request, count, typedArray): the argument structure is a count and the address of the array. */
Napi::Value Descriptor::IoctlArray(const Napi::CallbackInfo& info) {
  TypedMemory memory(info[2]);
  if (memory.data == nullptr) return Invalid(info.Env());
  ArrayArgument argument = {info[1].As<Napi::Number>().Uint32Value(), 0, reinterpret_cast<uintptr_t>(memory.data)};
  return Result(info.Env(), Control(fd_, info[0].As<Napi::Number>().Uint32Value(), &argument));
}

/** reserve(bytes): makes the file at least that long, its blocks allocated, so that touching a mapping cannot fail. */
Napi::Value Descriptor::Reserve(const Napi::CallbackInfo& info) {
  int error = posix_fallocate(fd_, 0, static_cast<off_t>(info[0].As<Napi::Number>().Int64Value()));
  return Napi::Number::New(info.Env(), -error);
}

/** map(bytes, writable, offset): an ArrayBuffer over a shared mapping, or a negative errno. */
Napi::Value Descriptor::Map(const Napi::CallbackInfo& info) {
  size_t bytes = static_cast<size_t>(info[0].As<Napi::Number>().Int64Value());
  int protection = PROT_READ | (info[1].As<Napi::Boolean>() ? PROT_WRITE : 0);
  off_t offset = static_cast<off_t>(info[2].As<Napi::Number>().Int64Value());
  void* address = mmap(nullptr, bytes, protection, MAP_SHARED, fd_, offset);
  if (address == MAP_FAILED) return Result(info.Env(), -1);
  auto unmap = [](void* at, size_t length) { return munmap(at, length) < 0 ? -errno : 0; };
  return mappings_.Add(info.Env(), std::make_shared<Mapping>(address, bytes, unmap));
}

/** unmap(arrayBuffer): detaches the buffer and unmaps its memory at once. */
Napi::Value Descriptor::Unmap(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), mappings_.Remove(info.Env(), info[0]));
}

/**
 * sleep(typedArray, Int32Array eventfds, count, first, microseconds): sleeps here as long as the event loop has nothing
 * to do, or for that many microseconds if they are not negative. Ends with the bytes of one read(2) into the array once
 * the file is readable; with 0 when one of the eventfds fired, which resets it; with -ETIME when the time is over; with
 * -EAGAIN when it is the event loop's turn. `first`: the loop has just had its turn.
 */
Napi::Value Descriptor::Sleep(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  TypedMemory memory(info[0]);
  TypedMemory others(info[1]);
  uint32_t count = std::min(info[2].As<Napi::Number>().Uint32Value(), kMaxSleepFiles - 2);
  uv_loop_s* loop = nullptr;
  // An array of no elements has no memory.
  bool readable = count == 0 || (others.data != nullptr && count * sizeof(int32_t) <= others.bytes);
  if (memory.data == nullptr || !readable || napi_get_uv_event_loop(env, &loop) != napi_ok) {
    return Invalid(env);
  }
  int64_t now = CoarseMilliseconds();
  if (info[3].As<Napi::Boolean>()) awake_since_ = now;
  int64_t timeout = uv_backend_timeout(loop);
  // The loop's own clock stands still meanwhile.
  if (timeout > 0) timeout = std::max<int64_t>(0, timeout - (now - awake_since_));
  if (timeout == 0) return Napi::Number::New(env, -EAGAIN);
  int64_t limit = info[4].As<Napi::Number>().Int64Value();
  bool limited = limit >= 0 && (timeout < 0 || limit < timeout * 1000);
  if (!limited) limit = timeout * 1000;
  timespec span = {limit / 1000000, limit % 1000000 * 1000};
  pollfd files[kMaxSleepFiles] = {{fd_, POLLIN, 0}, {uv_backend_fd(loop), POLLIN, 0}};
  for (uint32_t i = 0; i < count; i++) files[2 + i] = {static_cast<int32_t*>(others.data)[i], POLLIN, 0};
  int ready = ppoll(files, 2 + count, limit < 0 ? nullptr : &span, nullptr);
  if (ready == 0 && limited) return Napi::Number::New(env, -ETIME);
  if (ready > 0 && (files[0].revents & POLLIN) != 0) return Result(env, read(fd_, memory.data, memory.bytes));
  bool fired = false;
  for (uint32_t i = 0; i < count && ready > 0; i++) {
    eventfd_t value;
    if ((files[2 + i].revents & POLLIN) != 0) fired = eventfd_read(files[2 + i].fd, &value) == 0 || fired;
  }
  return Napi::Number::New(env, fired ? 0 : -EAGAIN);
}

/**
 * listen(typedArray, function): whenever the file is readable, one read(2) into the array and function(bytes), or
 * function(negative errno). listen() stops.
 */
Napi::Value Descriptor::Listen(const Napi::CallbackInfo& info) {
  StopListening();
  if (!info[1].IsFunction()) return Napi::Number::New(info.Env(), 0);
  int error = Poller::Start(info.Env(), fd_, info[0], info[1].As<Napi::Function>(), &poller_);
  if (error == 0) {
    Ref();
    listening_ = true;
  }
  return Napi::Number::New(info.Env(), error);
}

/** keepAlive(boolean): whether listening keeps the event loop running. */
Napi::Value Descriptor::KeepAlive(const Napi::CallbackInfo& info) {
  if (poller_ == nullptr) return Napi::Number::New(info.Env(), 0);
  if (info[0].As<Napi::Boolean>()) {
    poller_->Ref();
  } else {
    poller_->Unref();
  }
  return Napi::Number::New(info.Env(), 0);
}

/** close(): stops listening and closes the file. Mappings stay until they are unmapped. */
Napi::Value Descriptor::Close(const Napi::CallbackInfo& info) {
  StopListening();
  CloseFile();
  return Napi::Number::New(info.Env(), 0);
}

void Descriptor::StopListening() {
  if (poller_ != nullptr) poller_->Close();
  if (!listening_) return;
  listening_ = false;
  Unref();
}

void Descriptor::CloseFile() {
  if (fd_ >= 0) close(fd_);
  fd_ = -EBADF;
}
