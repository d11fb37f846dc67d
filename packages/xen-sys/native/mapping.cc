#include "mapping.h"

#include <cerrno>
#include <utility>

Mapping::Mapping(void* address, size_t bytes, Release release)
    : address_(address), bytes_(bytes), release_(std::move(release)) {}

Mapping::~Mapping() { Unmap(); }

int Mapping::Unmap() {
  if (address_ == nullptr) return 0;
  void* address = std::exchange(address_, nullptr);
  return release_(address, bytes_);
}

Napi::Value MappingTable::Add(Napi::Env env, std::shared_ptr<Mapping> mapping) {
  using Owner = std::shared_ptr<Mapping>;
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(
      env, mapping->address(), mapping->bytes(), [](Napi::Env, void*, Owner* owner) { delete owner; },
      new Owner(mapping));
  mappings_[mapping->address()] = std::move(mapping);
  return buffer;
}

Napi::Value MappingTable::Remove(Napi::Env env, Napi::Value value) {
  if (!value.IsArrayBuffer()) {
    Napi::TypeError::New(env, "unmap: buffer is not an ArrayBuffer").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  return Napi::Number::New(env, Unmap(env, value));
}

int MappingTable::Unmap(Napi::Env env, Napi::Value buffer) {
  void* address = nullptr;
  size_t bytes = 0;
  if (napi_get_arraybuffer_info(env, buffer, &address, &bytes) != napi_ok) return -EINVAL;
  auto found = mappings_.find(address);
  if (address == nullptr || found == mappings_.end()) return -EINVAL;
  if (napi_detach_arraybuffer(env, buffer) != napi_ok) return -EINVAL;
  std::shared_ptr<Mapping> mapping = std::move(found->second);
  mappings_.erase(found);
  return mapping->Unmap();
}
