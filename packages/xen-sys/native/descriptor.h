#pragma once

#include <napi.h>

#include <cerrno>
#include <memory>

#include "bound-call.h"
#include "checked-wrap.h"
#include "mapping.h"
#include "poller.h"

/**
 * One open file: a device of Xen's, or a file to be mapped. Every method returns 0 or more, or a negative errno, and
 * throws for arguments that it does not take; a descriptor that could not be opened has a negative errno as its `fd`.
 */
class Descriptor : public CheckedWrap<Descriptor> {
 public:
  static constexpr const char* kName = "Descriptor";
  static constexpr napi_type_tag kTag = {0x6f70656e66696c65, 0x64657363726970};

  static Napi::Function Define(Napi::Env env);

  explicit Descriptor(const Napi::CallbackInfo& info);
  ~Descriptor() override;

 private:
  Napi::Value Fd(const Napi::CallbackInfo& info);
  Napi::Value Read(const Napi::CallbackInfo& info);
  Napi::Value Write(const Napi::CallbackInfo& info);
  Napi::Value Ioctl(const Napi::CallbackInfo& info);
  Napi::Value IoctlWord(const Napi::CallbackInfo& info);
  Napi::Value BindIoctl(const Napi::CallbackInfo& info);
  Napi::Value BindSleep(const Napi::CallbackInfo& info);
  Napi::Value Lock(const Napi::CallbackInfo& info);
  Napi::Value Reserve(const Napi::CallbackInfo& info);
  Napi::Value Map(const Napi::CallbackInfo& info);
  Napi::Value Unmap(const Napi::CallbackInfo& info);
  Napi::Value Listen(const Napi::CallbackInfo& info);
  Napi::Value KeepAlive(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  void StopListening();
  void CloseFile();

  SharedFile fd_ = std::make_shared<int>(-EBADF);
  Poller* poller_ = nullptr;
  bool listening_ = false;
  MappingTable mappings_;
};
