#pragma once

#include <napi.h>

/** The memory of a typed array, also of one over a SharedArrayBuffer; `data` is null for any other value. */
struct TypedMemory {
  explicit TypedMemory(Napi::Value value) {
    napi_typedarray_type type;
    size_t length = 0;
    if (napi_get_typedarray_info(value.Env(), value, &type, &length, &data, nullptr, nullptr) != napi_ok) {
      data = nullptr;
      return;
    }
    bytes = length * ElementBytes(type);
  }

  void* data = nullptr;
  size_t bytes = 0;

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
