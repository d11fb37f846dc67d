#pragma once

#include <napi.h>

#include "mapping.h"

/**
 * libxenforeignmemory, opened at run time. `error` is an empty string, or says why the library could not be used;
 * `errno` is what opening the hypervisor's interface failed with.
 */
class ForeignMemory : public Napi::ObjectWrap<ForeignMemory> {
 public:
  static Napi::Function Define(Napi::Env env);

  explicit ForeignMemory(const Napi::CallbackInfo& info);

  struct Library;

 private:
  Napi::Value Error(const Napi::CallbackInfo& info);
  Napi::Value Errno(const Napi::CallbackInfo& info);
  Napi::Value Map(const Napi::CallbackInfo& info);
  Napi::Value Unmap(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  std::shared_ptr<Library> library_;
  std::string error_;
  int errno_ = 0;
  MappingTable mappings_;
};
