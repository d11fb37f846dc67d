#include "descriptor.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "control.h"
#include "typed-memory.h"

namespace {

Napi::Value Result(Napi::Env env, long result) {
  return Napi::Number::New(env, result < 0 ? -errno : static_cast<double>(result));
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
                         InstanceMethod<&Descriptor::Lock>("lock"),
                         InstanceMethod<&Descriptor::Reserve>("reserve"),
                         InstanceMethod<&Descriptor::Map>("map"),
                         InstanceMethod<&Descriptor::Unmap>("unmap"),
                         InstanceMethod<&Descriptor::BindIoctl>("bindIoctl"),
                         InstanceMethod<&Descriptor::BindSleep>("bindSleep"),
                         InstanceMethod<&Descriptor::Listen>("listen"),
                         InstanceMethod<&Descriptor::KeepAlive>("keepAlive"),
                         InstanceMethod<&Descriptor::Close>("close"),
                     });
}

/** new Descriptor(path, flags): flags of open(2), close-on-exec is added; a file it creates is the owner's alone. */
Descriptor::Descriptor(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Descriptor>(info) {
  std::string path = info[0].As<Napi::String>();
  int flags = info[1].As<Napi::Number>();
  int fd = open(path.c_str(), flags | O_CLOEXEC, 0600);
  fd_ = std::make_shared<int>(fd < 0 ? -errno : fd);
}

Descriptor::~Descriptor() {
  if (poller_ != nullptr) poller_->Close();
  CloseFile();
}

Napi::Value Descriptor::Fd(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), *fd_); }

/** read(typedArray): bytes read, 0 also when there is nothing to read now. */
Napi::Value Descriptor::Read(const Napi::CallbackInfo& info) {
  TypedMemory memory(info[0]);
  if (memory.data == nullptr) return Invalid(info.Env());
  ssize_t length = read(*fd_, memory.data, memory.bytes);
  if (length < 0 && errno == EAGAIN) length = 0;
  return Result(info.Env(), length);
}

/** write(typedArray, bytes): one write(2). */
Napi::Value Descriptor::Write(const Napi::CallbackInfo& info) {
  TypedMemory memory(info[0]);
  size_t bytes = info[1].As<Napi::Number>().Uint32Value();
  if (memory.data == nullptr || bytes > memory.bytes) return Invalid(info.Env());
  return Result(info.Env(), write(*fd_, memory.data, bytes));
}

/** ioctl(request, typedArray): the array is the argument structure, in and out. */
Napi::Value Descriptor::Ioctl(const Napi::CallbackInfo& info) {
  TypedMemory memory(info[1]);
  if (memory.data == nullptr) return Invalid(info.Env());
  return Result(info.Env(), Control(*fd_, info[0].As<Napi::Number>().Uint32Value(), memory.data));
}

/** ioctlWord(request, word): the argument structure is one 32-bit word. */
Napi::Value Descriptor::IoctlWord(const Napi::CallbackInfo& info) {
  uint32_t word = info[1].As<Napi::Number>().Uint32Value();
  return Result(info.Env(), Control(*fd_, info[0].As<Napi::Number>().Uint32Value(), &word));
}

/** lock(): the whole file, exclusively, until it is closed (F_OFD_SETLK); -EAGAIN if another has it. */
Napi::Value Descriptor::Lock(const Napi::CallbackInfo& info) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return Result(info.Env(), fcntl(*fd_, F_OFD_SETLK, &lock));
}

/** reserve(bytes): makes the file at least that long, its blocks allocated, so that touching a mapping cannot fail. */
Napi::Value Descriptor::Reserve(const Napi::CallbackInfo& info) {
  int error = posix_fallocate(*fd_, 0, static_cast<off_t>(info[0].As<Napi::Number>().Int64Value()));
  return Napi::Number::New(info.Env(), -error);
}

/** map(bytes, writable, offset): an ArrayBuffer over a shared mapping, or a negative errno. */
Napi::Value Descriptor::Map(const Napi::CallbackInfo& info) {
  size_t bytes = static_cast<size_t>(info[0].As<Napi::Number>().Int64Value());
  int protection = PROT_READ | (info[1].As<Napi::Boolean>() ? PROT_WRITE : 0);
  off_t offset = static_cast<off_t>(info[2].As<Napi::Number>().Int64Value());
  void* address = mmap(nullptr, bytes, protection, MAP_SHARED, *fd_, offset);
  if (address == MAP_FAILED) return Result(info.Env(), -1);
  auto unmap = [](void* at, size_t length) { return munmap(at, length) < 0 ? -errno : 0; };
  return mappings_.Add(info.Env(), std::make_shared<Mapping>(address, bytes, unmap));
}

/** unmap(arrayBuffer): detaches the buffer and unmaps its memory at once. */
Napi::Value Descriptor::Unmap(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), mappings_.Remove(info.Env(), info[0]));
}

Napi::Value Descriptor::BindIoctl(const Napi::CallbackInfo& info) { return ::BindIoctl(info, fd_); }

Napi::Value Descriptor::BindSleep(const Napi::CallbackInfo& info) { return ::BindSleep(info, fd_); }

/**
 * listen(typedArray, function): whenever the file is readable, one read(2) into the array and function(bytes), or
 * function(negative errno). listen() stops.
 */
Napi::Value Descriptor::Listen(const Napi::CallbackInfo& info) {
  StopListening();
  if (!info[1].IsFunction()) return Napi::Number::New(info.Env(), 0);
  int error = Poller::Start(info.Env(), *fd_, info[0], info[1].As<Napi::Function>(), &poller_);
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
  if (*fd_ >= 0) close(*fd_);
  *fd_ = -EBADF;
}
