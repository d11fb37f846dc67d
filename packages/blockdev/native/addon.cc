// What JavaScript sees: src/addon.ts describes each function.

#include <napi.h>

#include <functional>
#include <memory>

#include "descriptors.h"
#include "pool-work.h"
#include "ranges.h"
#include "thread-engine.h"

namespace blockdev {

namespace {

int32_t IntAt(const Napi::CallbackInfo& info, size_t at) { return info[at].As<Napi::Number>().Int32Value(); }
uint64_t BytesAt(const Napi::CallbackInfo& info, size_t at) {
  return static_cast<uint64_t>(info[at].As<Napi::Number>().Int64Value());
}

Napi::Value Int(const Napi::CallbackInfo& info, int value) { return Napi::Number::New(info.Env(), value); }

ThreadEngine* EngineOf(const Napi::CallbackInfo& info) {
  return ThreadEngine::Find(info.Env(), info[0].As<Napi::Number>().Uint32Value());
}

Queue* QueueAt(const Napi::CallbackInfo& info) {
  return EngineOf(info)->engine().queue(info[1].As<Napi::Number>().Uint32Value());
}

// The first byte of a typed array, of shared memory too (which Napi::TypedArray does not expect).
char* BytesOf(Napi::Value array) {
  void* data = nullptr;
  napi_get_typedarray_info(array.Env(), array, nullptr, nullptr, &data, nullptr, nullptr);
  return static_cast<char*>(data);
}

void Keep(const Napi::CallbackInfo& info, Queue* queue, size_t slot, Napi::Value value) {
  auto& references = EngineOf(info)->references(queue->id);
  if (slot >= references.size()) references.resize(slot + 1);
  references[slot] = value.IsObject() ? Napi::Persistent(value.As<Napi::Object>()) : Napi::ObjectReference();
}

// Places in a queue's list of references; regions come after.
enum Kept { kTags, kResults, kOperations, kIov, kFirstRegion };

Napi::Value RingOpen(const Napi::CallbackInfo& info) {
  return Int(info, ThreadEngine::Open(info.Env(), info[0].As<Napi::Function>(), info[1].As<Napi::Int32Array>()));
}

// ringReaper: the function has the engine at hand, because looking it up takes longer than most calls have to do.
napi_value Reap(napi_env env, napi_callback_info info) {
  void* engine;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &engine);
  napi_value result;
  napi_create_uint32(env, static_cast<ThreadEngine*>(engine)->Reap(), &result);
  return result;
}

Napi::Value RingReaper(const Napi::CallbackInfo& info) {
  napi_value function;
  // An engine lives as long as its thread.
  napi_create_function(info.Env(), "reap", NAPI_AUTO_LENGTH, Reap, EngineOf(info), &function);
  return Napi::Value(info.Env(), function);
}

Napi::Value RingEventFd(const Napi::CallbackInfo& info) { return Int(info, EngineOf(info)->engine().event_fd()); }

Napi::Value QueueOpen(const Napi::CallbackInfo& info) {
  QueueFiles files;
  files.main = IntAt(info, 2);
  files.buffered = IntAt(info, 3);
  files.block_device = info[4].ToBoolean();
  Queue* queue = EngineOf(info)->engine().AddQueue(static_cast<uint32_t>(IntAt(info, 1)), files);
  queue->tags = reinterpret_cast<int32_t*>(BytesOf(info[5]));
  queue->results = reinterpret_cast<int32_t*>(BytesOf(info[6]));
  Keep(info, queue, kTags, info[5]);
  Keep(info, queue, kResults, info[6]);
  return Int(info, static_cast<int>(queue->id));
}

void QueueStaging(const Napi::CallbackInfo& info) {
  Queue* queue = QueueAt(info);
  queue->staged.operations = reinterpret_cast<double*>(BytesOf(info[2]));
  queue->staged.iov = reinterpret_cast<double*>(BytesOf(info[3]));
  Keep(info, queue, kOperations, info[2]);
  Keep(info, queue, kIov, info[3]);
}

void QueueRegion(const Napi::CallbackInfo& info) {
  Queue* queue = QueueAt(info);
  size_t region = info[2].As<Napi::Number>().Uint32Value();
  if (region >= queue->regions.size()) queue->regions.resize(region + 1);
  queue->regions[region] = info[3].IsTypedArray() ? BytesOf(info[3]) : nullptr;
  if (region == 0) queue->memory_bytes = info[3].As<Napi::TypedArray>().ByteLength();
  Keep(info, queue, kFirstRegion + region, info[3]);
}

struct Starter {
  ThreadEngine* engine;
  uint32_t queue;

  uint32_t Run(uint32_t count, bool reap) {
    Queue* found = engine->engine().queue(queue);
    if (!found) return 0;
    engine->engine().Start(found, count);
    if (reap) return engine->Reap();
    engine->UpdateReference();
    return engine->engine().Ready();
  }
};

napi_value Start(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  size_t given = 2;
  void* starter;
  uint32_t count = 0;
  bool reap = false;
  napi_get_cb_info(env, info, &given, arguments, nullptr, &starter);
  napi_get_value_uint32(env, arguments[0], &count);
  napi_get_value_bool(env, arguments[1], &reap);
  napi_value result;
  napi_create_uint32(env, static_cast<Starter*>(starter)->Run(count, reap), &result);
  return result;
}

Napi::Value QueueStarter(const Napi::CallbackInfo& info) {
  auto* starter = new Starter{EngineOf(info), QueueAt(info)->id};
  auto release = [](napi_env, void* data, void*) { delete static_cast<Starter*>(data); };
  napi_value function;
  napi_create_function(info.Env(), "start", NAPI_AUTO_LENGTH, Start, starter, &function);
  napi_add_finalizer(info.Env(), function, starter, release, nullptr, nullptr);
  return Napi::Value(info.Env(), function);
}

void QueueClose(const Napi::CallbackInfo& info) {
  ThreadEngine* self = EngineOf(info);
  Queue* queue = QueueAt(info);
  self->references(queue->id).clear();
  self->engine().RemoveQueue(queue);
}

// Does `work` on the thread pool, then calls the function that is argument `at` with the result.
void InPool(const Napi::CallbackInfo& info, size_t at, std::function<int()> work) {
  auto callback = std::make_shared<Napi::FunctionReference>(Napi::Persistent(info[at].As<Napi::Function>()));
  auto done = [callback](Napi::Env env, int result) { callback->Call({Napi::Number::New(env, result)}); };
  PoolWork::Start(info.Env(), std::move(work), done);
}

void Range(const Napi::CallbackInfo& info) {
  int op = IntAt(info, 0), fd = IntAt(info, 1);
  bool block_device = info[2].ToBoolean();
  uint64_t offset = BytesAt(info, 3), length = BytesAt(info, 4);
  InPool(info, 5, [=] { return PerformRange(op, fd, block_device, offset, length); });
}

void DropCache(const Napi::CallbackInfo& info) {
  InPool(info, 1, [fd = IntAt(info, 0)] { return DropPageCache(fd); });
}

Napi::Value Punch(const Napi::CallbackInfo& info) {
  return Int(info, PerformRange(kDiscard, IntAt(info, 0), false, BytesAt(info, 1), BytesAt(info, 2)));
}

Napi::Value DirectAlign(const Napi::CallbackInfo& info) {
  auto* words = reinterpret_cast<double*>(BytesOf(info[1]));
  return Int(info, DirectAlignment(IntAt(info, 0), &words[0], &words[1]));
}

Napi::Value Address(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(reinterpret_cast<uintptr_t>(BytesOf(info[0]))));
}

off_t ByteAt(const Napi::CallbackInfo& info, size_t at) { return static_cast<off_t>(BytesAt(info, at)); }

Napi::Value Lock(const Napi::CallbackInfo& info) { return Int(info, LockByte(IntAt(info, 0), ByteAt(info, 1))); }

Napi::Value Unlock(const Napi::CallbackInfo& info) { return Int(info, UnlockByte(IntAt(info, 0), ByteAt(info, 1))); }

Napi::Value LockedElsewhere(const Napi::CallbackInfo& info) {
  return Int(info, ByteLockedElsewhere(IntAt(info, 0), ByteAt(info, 1)));
}

Napi::Value Duplicate(const Napi::CallbackInfo& info) { return Int(info, DuplicateDescriptor(IntAt(info, 0))); }

void CloseDuplicate(const Napi::CallbackInfo& info) {
  InPool(info, 1, [fd = IntAt(info, 0)] { return CloseDescriptor(fd); });
}

template <typename Callback>
void Export(Napi::Object exports, const char* name, Callback callback) {
  exports.Set(name, Napi::Function::New(exports.Env(), callback, name));
}

Napi::Object Init(Napi::Env, Napi::Object exports) {
  Export(exports, "ringOpen", RingOpen);
  Export(exports, "ringReaper", RingReaper);
  Export(exports, "ringEventFd", RingEventFd);
  Export(exports, "queueOpen", QueueOpen);
  Export(exports, "queueStaging", QueueStaging);
  Export(exports, "queueRegion", QueueRegion);
  Export(exports, "queueStarter", QueueStarter);
  Export(exports, "queueClose", QueueClose);
  Export(exports, "range", Range);
  Export(exports, "dropCache", DropCache);
  Export(exports, "punch", Punch);
  Export(exports, "directAlignment", DirectAlign);
  Export(exports, "address", Address);
  Export(exports, "lockByte", Lock);
  Export(exports, "unlockByte", Unlock);
  Export(exports, "byteLockedElsewhere", LockedElsewhere);
  Export(exports, "duplicate", Duplicate);
  Export(exports, "closeDuplicate", CloseDuplicate);
  return exports;
}

}  // namespace

}  // namespace blockdev

static Napi::Object InitModule(Napi::Env env, Napi::Object exports) { return blockdev::Init(env, exports); }

NODE_API_MODULE(blockdev, InitModule)
