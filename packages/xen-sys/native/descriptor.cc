#include "descriptor.h"

#include <fcntl.h>
#include <linux/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "arguments.h"
#include "control.h"

namespace {

Napi::Value Result(Napi::Env env, long result) {
  return Napi::Number::New(env, result < 0 ? -errno : static_cast<double>(result));
}

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
Descriptor::Descriptor(const Napi::CallbackInfo& info) : CheckedWrap<Descriptor>(info) {
  Arguments given(info, "Descriptor");
  std::string path = given.Path(0, "path");
  int flags = given.Int32(1, "flags");
  if (given.refused()) return;
  Tag(info);
  int fd = open(path.c_str(), flags | O_CLOEXEC, 0600);
  *fd_ = fd < 0 ? -errno : fd;
}

Descriptor::~Descriptor() {
  if (poller_ != nullptr) poller_->Close();
  CloseFile();
}

Napi::Value Descriptor::Fd(const Napi::CallbackInfo& info) {
  return IsOurs(info) ? Napi::Number::New(info.Env(), *fd_) : info.Env().Undefined();
}

/** read(typedArray): bytes read, 0 also when there is nothing to read now. */
Napi::Value Descriptor::Read(const Napi::CallbackInfo& info) {
  Arguments given(info, "read");
  TypedMemory memory = given.Memory(0, "into");
  if (given.refused()) return info.Env().Undefined();
  ssize_t length = read(*fd_, memory.data, memory.bytes);
  if (length < 0 && errno == EAGAIN) length = 0;
  return Result(info.Env(), length);
}

/** write(typedArray, bytes): one write(2). */
Napi::Value Descriptor::Write(const Napi::CallbackInfo& info) {
  Arguments given(info, "write");
  TypedMemory memory = given.Memory(0, "from");
  auto bytes = static_cast<size_t>(given.Whole(1, "bytes", 0, static_cast<int64_t>(memory.bytes)));
  if (given.refused()) return info.Env().Undefined();
  return Result(info.Env(), write(*fd_, memory.data, bytes));
}

/** ioctl(request, typedArray): the array is the argument structure, in and out. */
Napi::Value Descriptor::Ioctl(const Napi::CallbackInfo& info) {
  Arguments given(info, "ioctl");
  uint32_t request = given.Uint32(0, "request");
  TypedMemory memory = RequestMemory(given, request);
  if (given.refused()) return info.Env().Undefined();
  return Result(info.Env(), Control(*fd_, request, memory.data));
}

/** ioctlWord(request, word): the argument structure is one 32-bit word. */
Napi::Value Descriptor::IoctlWord(const Napi::CallbackInfo& info) {
  Arguments given(info, "ioctlWord");
  uint32_t request = given.Uint32(0, "request");
  uint32_t word = given.Uint32(1, "word");
  if (_IOC_SIZE(request) != sizeof(word)) given.RefuseRange("request", "has an argument of another size than a word");
  if (given.refused()) return info.Env().Undefined();
  return Result(info.Env(), Control(*fd_, request, &word));
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
  Arguments given(info, "reserve");
  auto bytes = static_cast<off_t>(given.Bytes(0, "bytes"));
  if (given.refused()) return info.Env().Undefined();
  int error = posix_fallocate(*fd_, 0, bytes);
  return Napi::Number::New(info.Env(), -error);
}

/** map(bytes, writable, offset): an ArrayBuffer over a shared mapping, or a negative errno. */
Napi::Value Descriptor::Map(const Napi::CallbackInfo& info) {
  Arguments given(info, "map");
  size_t bytes = given.MemoryBytes(0, "bytes");
  int protection = PROT_READ | (given.Flag(1, "writable") ? PROT_WRITE : 0);
  auto offset = static_cast<off_t>(given.Bytes(2, "offset"));
  if (given.refused()) return info.Env().Undefined();
  void* address = mmap(nullptr, bytes, protection, MAP_SHARED, *fd_, offset);
  if (address == MAP_FAILED) return Result(info.Env(), -1);
  auto unmap = [](void* at, size_t length) { return munmap(at, length) < 0 ? -errno : 0; };
  return mappings_.Add(info.Env(), std::make_shared<Mapping>(address, bytes, unmap));
}

/** unmap(arrayBuffer): detaches the buffer and unmaps its memory at once. */
Napi::Value Descriptor::Unmap(const Napi::CallbackInfo& info) {
  return mappings_.Remove(info.Env(), info[0]);
}

Napi::Value Descriptor::BindIoctl(const Napi::CallbackInfo& info) { return ::BindIoctl(info, fd_); }

Napi::Value Descriptor::BindSleep(const Napi::CallbackInfo& info) { return ::BindSleep(info, fd_); }

/**
 * listen(typedArray, function): whenever the file is readable, one read(2) into the array and function(bytes), or
 * function(negative errno). listen() stops.
 */
Napi::Value Descriptor::Listen(const Napi::CallbackInfo& info) {
  Arguments given(info, "listen");
  if (given.count() > 0) {
    given.Memory(0, "into");
    given.Function(1, "onRead");
    if (given.refused()) return info.Env().Undefined();
  }
  StopListening();
  if (given.count() == 0) return Napi::Number::New(info.Env(), 0);
  int error = Poller::Start(info.Env(), *fd_, info[0], info[1].As<Napi::Function>(), &poller_);
  if (error == 0) {
    Ref();
    listening_ = true;
  }
  return Napi::Number::New(info.Env(), error);
}

/** keepAlive(boolean): whether listening keeps the event loop running. */
Napi::Value Descriptor::KeepAlive(const Napi::CallbackInfo& info) {
  Arguments given(info, "keepAlive");
  bool keep = given.Flag(0, "keep");
  if (given.refused()) return info.Env().Undefined();
  if (poller_ == nullptr) return Napi::Number::New(info.Env(), 0);
  if (keep) {
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
