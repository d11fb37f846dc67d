#include "arguments.h"

#include <cmath>

double Arguments::Number(size_t at, const char* name) {
  double number = 0;
  if (napi_get_value_double(info_.Env(), info_[at], &number) != napi_ok) RefuseType(name, "a number");
  return number;
}

int64_t Arguments::Whole(size_t at, const char* name, int64_t least, int64_t most) {
  double number = Number(at, name);
  if (refused_) return 0;
  // All bounds are numbers that a double has exactly. NaN is in none.
  bool inside = number >= static_cast<double>(least) && number <= static_cast<double>(most);
  if (inside && number == std::trunc(number)) return static_cast<int64_t>(number);
  std::string given = Napi::Number::New(info_.Env(), number).ToString();
  std::string bounds = std::to_string(least) + " to " + std::to_string(most);
  RefuseRange(name, "is " + given + "; expected a whole number from " + bounds);
  return 0;
}

bool Arguments::Flag(size_t at, const char* name) {
  bool flag = false;
  if (napi_get_value_bool(info_.Env(), info_[at], &flag) != napi_ok) RefuseType(name, "a boolean");
  return flag;
}

std::string Arguments::Path(size_t at, const char* name) {
  if (!info_[at].IsString()) {
    RefuseType(name, "a string");
    return {};
  }
  std::string path = info_[at].As<Napi::String>();
  if (path.find('\0') != std::string::npos) RefuseRange(name, "has a zero byte");
  return path;
}

Napi::Function Arguments::Function(size_t at, const char* name) {
  if (!info_[at].IsFunction()) RefuseType(name, "a function");
  return info_[at].As<Napi::Function>();
}

TypedMemory Arguments::Memory(size_t at, const char* name) {
  TypedMemory memory(info_[at]);
  if (!memory.is_array) RefuseType(name, "a typed array");
  return memory;
}

TypedMemory Arguments::Array(size_t at, const char* name, napi_typedarray_type type, const char* kind,
                             size_t elements) {
  TypedMemory memory(info_[at]);
  if (!memory.is_array || memory.type != type) {
    RefuseType(name, kind);
  } else if (memory.length < elements) {
    std::string have = "has " + std::to_string(memory.length) + " elements";
    RefuseRange(name, have + "; expected " + std::to_string(elements) + " or more");
  }
  return memory;
}

void Arguments::RefuseType(const char* name, const char* expected) {
  if (refused_) return;
  refused_ = true;
  std::string message = std::string(function_) + ": " + name + " is not " + expected;
  Napi::TypeError::New(info_.Env(), message).ThrowAsJavaScriptException();
}

void Arguments::RefuseRange(const char* name, const std::string& problem) {
  if (refused_) return;
  refused_ = true;
  std::string message = std::string(function_) + ": " + name + " " + problem;
  Napi::RangeError::New(info_.Env(), message).ThrowAsJavaScriptException();
}
