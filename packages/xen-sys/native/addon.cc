#include <napi.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "arguments.h"
#include "descriptor.h"
#include "foreign-memory.h"
#include "futex.h"
#include "process.h"

namespace {

/** addressOf(typedArray): where its memory is; 0 without memory. */
Napi::Value AddressOf(const Napi::CallbackInfo& info) {
  Arguments given(info, "addressOf");
  TypedMemory memory = given.Memory(0, "memory");
  if (given.refused()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(reinterpret_cast<uintptr_t>(memory.data)));
}

int Send(const TypedMemory& path, const TypedMemory& data, bool wait) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.bytes > sizeof address.sun_path) return -ENAMETOOLONG;
  std::memcpy(address.sun_path, path.data, path.bytes);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.bytes);
  int flags = MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT);
  ssize_t sent = sendto(fd, data.data, data.bytes, flags, reinterpret_cast<sockaddr*>(&address), length);
  int error = sent < 0 ? -errno : 0;
  close(fd);
  return error;
}

/**
 * sendDatagram(path: Uint8Array, data: Uint8Array, wait: boolean): one datagram to a Unix socket, which Node has no
 * interface for. A path that begins with a zero byte is in the abstract namespace. A receiver that has no room is waited
 * for, or it is -EAGAIN. 0 or a negative errno.
 */
Napi::Value SendDatagram(const Napi::CallbackInfo& info) {
  Arguments given(info, "sendDatagram");
  TypedMemory path = given.Memory(0, "path");
  TypedMemory data = given.Memory(1, "data");
  bool wait = given.Flag(2, "wait");
  if (given.refused()) return info.Env().Undefined();
  if (path.bytes == 0) return Napi::Number::New(info.Env(), -EINVAL);
  return Napi::Number::New(info.Env(), Send(path, data, wait));
}

Napi::Object Initialise(Napi::Env env, Napi::Object exports) {
  exports["Descriptor"] = Descriptor::Define(env);
  exports["ForeignMemory"] = ForeignMemory::Define(env);
  exports["addressOf"] = Napi::Function::New<AddressOf>(env, "addressOf");
  exports["forbidCoreDumps"] = Napi::Function::New<ForbidCoreDumps>(env, "forbidCoreDumps");
  exports["futexWait"] = Napi::Function::New<FutexWait>(env, "futexWait");
  exports["futexWake"] = Napi::Function::New<FutexWake>(env, "futexWake");
  exports["makeFifo"] = Napi::Function::New<MakeFifo>(env, "makeFifo");
  exports["sendDatagram"] = Napi::Function::New<SendDatagram>(env, "sendDatagram");
  return exports;
}

}  // namespace

NODE_API_MODULE(NODE_GYP_MODULE_NAME, Initialise)
