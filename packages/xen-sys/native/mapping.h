#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <unordered_map>

/** Memory that is mapped until it is released or nothing refers to it any more. */
class Mapping {
 public:
  using Release = std::function<int(void* address, size_t bytes)>;

  Mapping(void* address, size_t bytes, Release release);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  void* address() const { return address_; }
  size_t bytes() const { return bytes_; }

  /** Unmaps now; 0 or a negative errno. Harmless when repeated. */
  int Unmap();

 private:
  void* address_;
  size_t bytes_;
  Release release_;
};

/** The mappings that one object made, found again by the ArrayBuffer that JavaScript holds. */
class MappingTable {
 public:
  /** An ArrayBuffer over the mapping. It keeps the memory mapped for as long as it is reachable and attached. */
  Napi::Value Add(Napi::Env env, std::shared_ptr<Mapping> mapping);
  /**
   * Detaches the buffer, then unmaps. 0, or -EINVAL for a buffer that is not (or no longer) of this table; throws for
   * what is none.
   */
  Napi::Value Remove(Napi::Env env, Napi::Value buffer);

 private:
  int Unmap(Napi::Env env, Napi::Value buffer);

  std::unordered_map<void*, std::shared_ptr<Mapping>> mappings_;
};
