#include "foreign-memory.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <cerrno>
#include <vector>

#include "typed-memory.h"

constexpr size_t kPageBytes = 4096;

/** The functions of xenforeignmemory.h that are used; mappings keep it open. */
struct ForeignMemory::Library {
  void* image = nullptr;
  void* handle = nullptr;
  void* (*open)(void* logger, unsigned flags) = nullptr;
  int (*close)(void* handle) = nullptr;
  void* (*map)(void* handle, uint32_t domid, int protection, size_t pages, const uint64_t* frames,
               int* errors) = nullptr;
  int (*unmap)(void* handle, void* address, size_t pages) = nullptr;

  ~Library() {
    if (handle != nullptr) close(handle);
    if (image != nullptr) dlclose(image);
  }

  template <typename Function>
  bool Find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(image, name));
    return function != nullptr;
  }

  bool Load(const std::string& name) {
    image = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    return image != nullptr && Find(open, "xenforeignmemory_open") && Find(close, "xenforeignmemory_close") &&
           Find(map, "xenforeignmemory_map") && Find(unmap, "xenforeignmemory_unmap");
  }
};

Napi::Function ForeignMemory::Define(Napi::Env env) {
  return DefineClass(env, "ForeignMemory",
                     {
                         InstanceAccessor<&ForeignMemory::Error>("error"),
                         InstanceAccessor<&ForeignMemory::Errno>("errno"),
                         InstanceMethod<&ForeignMemory::Map>("map"),
                         InstanceMethod<&ForeignMemory::Unmap>("unmap"),
                         InstanceMethod<&ForeignMemory::Close>("close"),
                     });
}

/** new ForeignMemory(library): the name or path of the shared library. */
ForeignMemory::ForeignMemory(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ForeignMemory>(info) {
  auto library = std::make_shared<Library>();
  if (!library->Load(info[0].As<Napi::String>())) {
    const char* reason = dlerror();
    error_ = reason == nullptr ? "unknown error" : reason;
    return;
  }
  library->handle = library->open(nullptr, 0);
  if (library->handle == nullptr) {
    errno_ = errno;
    return;
  }
  library_ = std::move(library);
}

Napi::Value ForeignMemory::Error(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), error_); }

Napi::Value ForeignMemory::Errno(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), errno_); }

/**
 * map(domid, writable, frames: Float64Array, errors: Int32Array): an ArrayBuffer, or a negative errno when nothing
 * could be mapped. `errors` receives 0 or a negative errno for each frame.
 */
Napi::Value ForeignMemory::Map(const Napi::CallbackInfo& info) {
  TypedMemory frames(info[2]);
  TypedMemory errors(info[3]);
  size_t count = frames.bytes / sizeof(double);
  if (library_ == nullptr) return Napi::Number::New(info.Env(), -EBADF);
  if (count == 0 || errors.bytes < count * sizeof(int)) return Napi::Number::New(info.Env(), -EINVAL);
  const double* numbers = static_cast<const double*>(frames.data);
  std::vector<uint64_t> pfns(numbers, numbers + count);
  int protection = PROT_READ | (info[1].As<Napi::Boolean>() ? PROT_WRITE : 0);
  uint32_t domid = info[0].As<Napi::Number>().Uint32Value();
  void* address = library_->map(library_->handle, domid, protection, count, pfns.data(), static_cast<int*>(errors.data));
  if (address == nullptr) return Napi::Number::New(info.Env(), -errno);
  auto unmap = [library = library_](void* at, size_t bytes) {
    return library->unmap(library->handle, at, bytes / kPageBytes) < 0 ? -errno : 0;
  };
  return mappings_.Add(info.Env(), std::make_shared<Mapping>(address, count * kPageBytes, unmap));
}

/** unmap(arrayBuffer): detaches the buffer and unmaps its memory at once. */
Napi::Value ForeignMemory::Unmap(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), mappings_.Remove(info.Env(), info[0]));
}

/** close(): the library is let go of when the last mapping is. */
Napi::Value ForeignMemory::Close(const Napi::CallbackInfo& info) {
  library_.reset();
  return Napi::Number::New(info.Env(), 0);
}
