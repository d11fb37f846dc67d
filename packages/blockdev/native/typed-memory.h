#pragma once

#include <napi.h>

/**
 * The memory of a typed array, also of one over a SharedArrayBuffer. `data` is null for any other value, and for an
 * array whose buffer is detached.
 */
struct TypedMemory {
  explicit TypedMemory(Napi::Value value) {
    napi_value holder = nullptr;
    if (napi_get_typedarray_info(value.Env(), value, &type, &length, &data, &holder, nullptr) != napi_ok) {
      data = nullptr;
      return;
    }
    is_array = true;
    buffer = Napi::Value(value.Env(), holder);
    bytes = length * ElementBytes(type);
  }

  /** Whether what is behind it has been taken away since it was looked at. */
  static bool IsDetached(napi_env env, napi_value buffer) {
    bool detached = false;
    return napi_is_detached_arraybuffer(env, buffer, &detached) == napi_ok && detached;
  }

  void* data = nullptr;
  size_t bytes = 0;
  size_t length = 0;  // in elements
  bool is_array = false;
  napi_typedarray_type type = napi_uint8_array;
  /** The ArrayBuffer or SharedArrayBuffer. */
  Napi::Value buffer;

 private:
  static size_t ElementBytes(napi_typedarray_type type) {
    switch (type) {
      case napi_int16_array:
      case napi_uint16_array:
        return 2;
      case napi_int32_array:
      case napi_uint32_array:
      case napi_float32_array:
        return 4;
      case napi_float64_array:
      case napi_bigint64_array:
      case napi_biguint64_array:
        return 8;
      default:
        return 1;
    }
  }
};
