#include "foreign-memory.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <cerrno>
#include <vector>

#include "arguments.h"

constexpr size_t kPageBytes = 4096;
/** What a Buffer of Node 20 has room for. */
constexpr size_t kMaxPages = (size_t{1} << 32) / kPageBytes;
/** No frame has a larger number: page tables have 52 bits of addresses. */
constexpr double kMaxFrame = 1LL << 40;

namespace {

/** False for what is no number of a frame. */
bool TakeFrames(const TypedMemory& frames, std::vector<uint64_t>& numbers) {
  const auto* given = static_cast<const double*>(frames.data);
  for (size_t i = 0; i < frames.length; i++) {
    if (!(given[i] >= 0 && given[i] <= kMaxFrame)) return false;
    numbers.push_back(static_cast<uint64_t>(given[i]));
  }
  return true;
}

}  // namespace

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
ForeignMemory::ForeignMemory(const Napi::CallbackInfo& info) : CheckedWrap<ForeignMemory>(info) {
  Arguments given(info, "ForeignMemory");
  std::string name = given.Path(0, "library");
  if (given.refused()) return;
  Tag(info);
  auto library = std::make_shared<Library>();
  if (!library->Load(name)) {
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

Napi::Value ForeignMemory::Error(const Napi::CallbackInfo& info) {
  return IsOurs(info) ? Napi::String::New(info.Env(), error_) : info.Env().Undefined();
}

Napi::Value ForeignMemory::Errno(const Napi::CallbackInfo& info) {
  return IsOurs(info) ? Napi::Number::New(info.Env(), errno_) : info.Env().Undefined();
}

/**
 * map(domid, writable, frames: Float64Array, errors: Int32Array): an ArrayBuffer, or a negative errno when nothing
 * could be mapped. `errors` receives 0 or a negative errno for each frame.
 */
Napi::Value ForeignMemory::Map(const Napi::CallbackInfo& info) {
  Arguments given(info, "map");
  uint32_t domid = given.Uint32(0, "domid");
  int protection = PROT_READ | (given.Flag(1, "writable") ? PROT_WRITE : 0);
  TypedMemory frames = given.Array(2, "frames", napi_float64_array, "a Float64Array", 1);
  size_t count = frames.length;
  TypedMemory errors = given.Array(3, "errors", napi_int32_array, "an Int32Array", count);
  if (count > kMaxPages) given.RefuseRange("frames", "are more than an ArrayBuffer has room for");
  std::vector<uint64_t> pfns;
  if (!given.refused() && !TakeFrames(frames, pfns)) given.RefuseRange("frames", "has a number that is no frame's");
  if (given.refused()) return info.Env().Undefined();
  if (library_ == nullptr) return Napi::Number::New(info.Env(), -EBADF);
  void* address = library_->map(library_->handle, domid, protection, count, pfns.data(), static_cast<int*>(errors.data));
  if (address == nullptr) return Napi::Number::New(info.Env(), -errno);
  auto unmap = [library = library_](void* at, size_t bytes) {
    return library->unmap(library->handle, at, bytes / kPageBytes) < 0 ? -errno : 0;
  };
  return mappings_.Add(info.Env(), std::make_shared<Mapping>(address, count * kPageBytes, unmap));
}

/** unmap(arrayBuffer): detaches the buffer and unmaps its memory at once. */
Napi::Value ForeignMemory::Unmap(const Napi::CallbackInfo& info) {
  return mappings_.Remove(info.Env(), info[0]);
}

/** close(): the library is let go of when the last mapping is. */
Napi::Value ForeignMemory::Close(const Napi::CallbackInfo& info) {
  library_.reset();
  return Napi::Number::New(info.Env(), 0);
}
