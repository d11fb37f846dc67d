#pragma once

#include <napi.h>

#include <string>

/**
 * The object of C++ behind one of JavaScript, with its kind checked: V8 checks what methods are called with, but a getter
 * is called with whatever somebody hands to it.
 */
template <typename T>
class CheckedWrap : public Napi::ObjectWrap<T> {
 public:
  explicit CheckedWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<T>(info) {}

  /** What node-addon-api calls first; a TypeError for objects that have none. */
  static T* Unwrap(Napi::Object self) {
    void* data = nullptr;
    if (napi_unwrap(self.Env(), self, &data) == napi_ok) return static_cast<T*>(data);
    Refuse(self.Env());
    return nullptr;
  }

 protected:
  static void Tag(const Napi::CallbackInfo& info) { info.This().As<Napi::Object>().TypeTag(&T::kTag); }

  /** For getters, before they touch `this`. Throws and is false for an object of another class. */
  static bool IsOurs(const Napi::CallbackInfo& info) {
    if (info.This().As<Napi::Object>().CheckTypeTag(&T::kTag)) return true;
    Refuse(info.Env());
    return false;
  }

 private:
  static void Refuse(Napi::Env env) {
    Napi::TypeError::New(env, std::string("this is not a ") + T::kName).ThrowAsJavaScriptException();
  }
};
