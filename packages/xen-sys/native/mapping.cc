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

namespace {

/**
 * Adds to the bytes that V8 believes that a collection could free. From Node 24 on nothing: there V8 takes a buffer off
 * the account before the buffer's finalizer can put its bytes back, and ends the process where it falls below zero.
 */
void AddCountedBytes(Napi::Env env, int64_t bytes) {
  const napi_node_version* version = nullptr;
  if (napi_get_node_version(env, &version) != napi_ok || version->major >= 24) return;
  Napi::MemoryManagement::AdjustExternalMemory(env, bytes);
}

}  // namespace

Napi::Value MappingTable::Add(Napi::Env env, std::shared_ptr<Mapping> mapping) {
  using Owner = std::shared_ptr<Mapping>;
  // V8 counts the bytes of a buffer as memory that a collection could free, and collects early for it. These are pages of
  // a guest or of a file: a hundred guests' would cost collections of some 30 ms, and free nothing.
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(
      env, mapping->address(), mapping->bytes(),
      [](Napi::Env env, void*, Owner* owner) {
        AddCountedBytes(env, static_cast<int64_t>((*owner)->bytes()));
        delete owner;
      },
      new Owner(mapping));
  AddCountedBytes(env, -static_cast<int64_t>(mapping->bytes()));
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
