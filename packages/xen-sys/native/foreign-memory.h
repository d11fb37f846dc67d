#pragma once

#include <napi.h>

#include "checked-wrap.h"
#include "mapping.h"

/**
 * libxenforeignmemory, opened at run time. `error` is an empty string, or says why the library could not be used;
 * `errno` is what opening the hypervisor's interface failed with.
 */
class ForeignMemory : public CheckedWrap<ForeignMemory> {
 public:
  static constexpr const char* kName = "ForeignMemory";
  static constexpr napi_type_tag kTag = {0x666f726569676e, 0x6d656d6f7279};

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
