// What JavaScript sees: src/native.ts describes each function.

#include <napi.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <vector>

#include "engine.h"
#include "ranges.h"
#include "uv-poll.h"

namespace blockdev {

namespace {

const int kDrainSeconds = 30;

// The io_uring engine of one JavaScript thread, or one of them: a thread that loads the package both as ES modules and
// as CommonJS has two.
class ThreadEngine {
 public:
  ThreadEngine(napi_env env, uint32_t id, Napi::Function on_ready, Napi::Int32Array ready)
      : env_(env), id_(id), on_ready_(Napi::Persistent(on_ready)), ready_(Napi::Persistent(ready)) {
    ready_words_ = ready.Data();
    ready_room_ = static_cast<uint32_t>(ready.ElementLength() / 2);
  }

  int Open();
  Engine& engine() { return engine_; }
  uint32_t Reap();
  // Keeps the event loop alive while something is in flight.
  void UpdateReference();
  void CallJavaScript();
  std::vector<Napi::ObjectReference>& references(uint32_t queue);

 private:
  static void OnReadable(uv_poll_s* handle, int status, int events);
  static void OnExit(napi_async_cleanup_hook_handle handle, void* data);
  void RunRange(uint32_t queue, uint32_t slot, int op, int fd, uint64_t offset, uint64_t length);

  napi_env env_;
  uint32_t id_;
  Napi::FunctionReference on_ready_;
  Napi::Reference<Napi::Int32Array> ready_;
  int32_t* ready_words_;
  uint32_t ready_room_;
  uv_poll_s* poll_ = nullptr;
  bool referenced_ = false;
  napi_async_cleanup_hook_handle cleanup_ = nullptr;
  // Of each queue: what it must keep alive.
  std::vector<std::vector<Napi::ObjectReference>> references_;
  Engine engine_{[this](auto... arguments) { RunRange(arguments...); }};
};

struct InstanceData {
  // By their ids; nullptr when the thread is about to end.
  std::vector<ThreadEngine*> engines;
};

// Work on libuv's thread pool; calls `done` with its result on the JavaScript thread.
class PoolWork : public Napi::AsyncWorker {
 public:
  PoolWork(Napi::Env env, std::function<int()> work, std::function<void(Napi::Env, int)> done)
      : AsyncWorker(env), work_(std::move(work)), done_(std::move(done)) {}

  void Execute() override { result_ = work_(); }
  void OnOK() override { done_(Env(), result_); }

 private:
  std::function<int()> work_;
  int result_ = 0;
  std::function<void(Napi::Env, int)> done_;
};

ThreadEngine*& EngineAt(Napi::Env env, uint32_t id) { return env.GetInstanceData<InstanceData>()->engines[id]; }

int ThreadEngine::Open() {
  int result = engine_.Open();
  if (result < 0) return result;
  uv_loop_s* loop = nullptr;
  if (napi_get_uv_event_loop(env_, &loop) != napi_ok) return -ENOTSUP;
  poll_ = static_cast<uv_poll_s*>(calloc(1, uv_handle_size(kUvPoll)));
  result = uv_poll_init(loop, poll_, engine_.event_fd());
  if (result < 0) {
    free(poll_);
    return result;
  }
  uv_handle_set_data(poll_, this);
  uv_poll_start(poll_, kUvReadable, OnReadable);
  uv_unref(poll_);
  napi_add_async_cleanup_hook(env_, OnExit, this, &cleanup_);
  return 0;
}

void ThreadEngine::OnReadable(uv_poll_s* handle, int, int) {
  auto* self = static_cast<ThreadEngine*>(uv_handle_get_data(handle));
  self->engine_.ClearEvent();
  self->CallJavaScript();
}

void ThreadEngine::CallJavaScript() {
  Napi::HandleScope scope(env_);
  napi_value result;
  napi_status status =
      napi_make_callback(env_, nullptr, Napi::Env(env_).Global(), on_ready_.Value(), 0, nullptr, &result);
  if (status != napi_pending_exception) return;
  napi_value error;
  napi_get_and_clear_last_exception(env_, &error);
  napi_fatal_exception(env_, error);
}

uint32_t ThreadEngine::Reap() {
  uint32_t count = engine_.Reap(ready_words_, ready_room_);
  UpdateReference();
  return count;
}

void ThreadEngine::UpdateReference() {
  bool wanted = engine_.in_flight() > 0;
  if (wanted == referenced_) return;
  referenced_ = wanted;
  if (wanted) uv_ref(poll_);
  else uv_unref(poll_);
}

std::vector<Napi::ObjectReference>& ThreadEngine::references(uint32_t queue) {
  if (queue >= references_.size()) references_.resize(queue + 1);
  return references_[queue];
}

void ThreadEngine::RunRange(uint32_t queue, uint32_t slot, int op, int fd, uint64_t offset, uint64_t length) {
  bool block_device = engine_.queue(queue)->files.block_device;
  auto done = [id = id_, queue, slot](Napi::Env env, int result) {
    ThreadEngine* self = EngineAt(env, id);
    if (!self) return;
    self->engine_.RangeDone(queue, slot, result);
    self->CallJavaScript();
  };
  auto work = [=] { return PerformRange(op, fd, block_device, offset, length); };
  (new PoolWork(env_, work, done))->Queue();
}

// The thread ends, perhaps with operations under way: their memory must outlive them.
void ThreadEngine::OnExit(napi_async_cleanup_hook_handle handle, void* data) {
  auto* self = static_cast<ThreadEngine*>(data);
  EngineAt(self->env_, self->id_) = nullptr;
  self->engine_.Drain(kDrainSeconds);
  uv_close(self->poll_, [](uv_poll_s* closed) {
    auto* self = static_cast<ThreadEngine*>(uv_handle_get_data(closed));
    free(closed);
    napi_async_cleanup_hook_handle cleanup = self->cleanup_;
    // The environment frees the references itself.
    self->on_ready_.SuppressDestruct();
    self->ready_.SuppressDestruct();
    for (auto& queue : self->references_) {
      for (auto& reference : queue) reference.SuppressDestruct();
    }
    delete self;
    napi_remove_async_cleanup_hook(cleanup);
  });
}

int32_t IntAt(const Napi::CallbackInfo& info, size_t at) { return info[at].As<Napi::Number>().Int32Value(); }
uint64_t BytesAt(const Napi::CallbackInfo& info, size_t at) {
  return static_cast<uint64_t>(info[at].As<Napi::Number>().Int64Value());
}

Napi::Value Int(const Napi::CallbackInfo& info, int value) { return Napi::Number::New(info.Env(), value); }

ThreadEngine* EngineOf(const Napi::CallbackInfo& info) {
  return EngineAt(info.Env(), info[0].As<Napi::Number>().Uint32Value());
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
  auto& engines = info.Env().GetInstanceData<InstanceData>()->engines;
  uint32_t id = static_cast<uint32_t>(engines.size());
  auto engine =
      std::make_unique<ThreadEngine>(info.Env(), id, info[0].As<Napi::Function>(), info[1].As<Napi::Int32Array>());
  int result = engine->Open();
  if (result < 0) return Int(info, result);
  engines.push_back(engine.release());
  return Int(info, static_cast<int>(id));
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
  (new PoolWork(info.Env(), std::move(work), done))->Queue();
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

template <typename Callback>
void Export(Napi::Object exports, const char* name, Callback callback) {
  exports.Set(name, Napi::Function::New(exports.Env(), callback, name));
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new InstanceData());
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
  return exports;
}

}  // namespace

}  // namespace blockdev

static Napi::Object InitModule(Napi::Env env, Napi::Object exports) { return blockdev::Init(env, exports); }

NODE_API_MODULE(blockdev, InitModule)
