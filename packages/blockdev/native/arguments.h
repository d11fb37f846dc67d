#pragma once

#include <napi.h>

#include <cstdint>
#include <string>

#include "typed-memory.h"

/**
 * The arguments of one call from JavaScript. What is not of the kind that the function takes throws a TypeError there,
 * what is out of bounds a RangeError. Only the first throws, and all that is read after it is zero or empty: a function
 * reads everything, and returns before it does anything if something was refused.
 */
class Arguments {
 public:
  Arguments(const Napi::CallbackInfo& info, const char* function) : info_(info), function_(function) {}

  bool refused() const { return refused_; }
  size_t count() const { return info_.Length(); }
  Napi::Value value(size_t at) const { return info_[at]; }

  /** A whole number from `least` to `most`. */
  int64_t Whole(size_t at, const char* name, int64_t least, int64_t most);
  /** Any number that is one. */
  double Number(size_t at, const char* name);
  int32_t Int32(size_t at, const char* name) {
    return static_cast<int32_t>(Whole(at, name, INT32_MIN, INT32_MAX));
  }
  uint32_t Uint32(size_t at, const char* name) { return static_cast<uint32_t>(Whole(at, name, 0, UINT32_MAX)); }
  /** An open file. */
  int Descriptor(size_t at) { return static_cast<int>(Whole(at, "fd", 0, INT32_MAX)); }
  /** An offset or a length in bytes. */
  int64_t Bytes(size_t at, const char* name) { return Whole(at, name, 0, kMaxSafeInteger); }
  /** The length of memory that JavaScript gets. Node frees what is longer than a Buffer can be at once, and fails. */
  size_t MemoryBytes(size_t at, const char* name) {
    return static_cast<size_t>(Whole(at, name, 0, kMaxBufferBytes));
  }
  bool Flag(size_t at, const char* name);
  /** Without zero bytes. */
  std::string Path(size_t at, const char* name);
  Napi::Function Function(size_t at, const char* name);
  /** A typed array of any kind, which may be empty. */
  TypedMemory Memory(size_t at, const char* name);
  /** A typed array of that kind with at least so many elements; `kind` is its name in JavaScript. */
  TypedMemory Array(size_t at, const char* name, napi_typedarray_type type, const char* kind, size_t elements);

  /** Throws unless something was refused before. */
  void RefuseType(const char* name, const char* expected);
  void RefuseRange(const char* name, const std::string& problem);

 private:
  /** MAX_LENGTH of node:buffer in Node 20; later ones have more. */
  static constexpr int64_t kMaxBufferBytes = int64_t{1} << 32;
  static constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;

  const Napi::CallbackInfo& info_;
  const char* function_;
  bool refused_ = false;
};
