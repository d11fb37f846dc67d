// What JavaScript sees: src/addon.ts describes each function.

#include <napi.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <vector>

#include "arguments.h"
#include "descriptors.h"
#include "guarded-memory.h"
#include "loop-time.h"
#include "pool-work.h"
#include "ranges.h"
#include "thread-engine.h"

namespace blockdev {

namespace {

const int64_t kMaxDepth = 1 << 16;
const int64_t kMaxRegion = 1 << 20;

Napi::Value Int(const Napi::CallbackInfo& info, int value) { return Napi::Number::New(info.Env(), value); }
Napi::Value Nothing(const Napi::CallbackInfo& info) { return info.Env().Undefined(); }

// Memory that is used again and again without a look at its buffer, so nobody may be able to take it away: it is shared
// with JavaScript (GuardedMemory), or between threads, which cannot be undone.
TypedMemory Lasting(Arguments& given, const char* name, TypedMemory memory) {
  if (given.refused() || memory.data == nullptr || !memory.buffer.IsArrayBuffer()) return memory;
  if (!GuardedMemory::Find(memory.data)) given.RefuseRange(name, "could be detached; expected memory of allocate()");
  return memory;
}

TypedMemory Int32Array(Arguments& given, size_t at, const char* name, size_t elements) {
  return Lasting(given, name, given.Array(at, name, napi_int32_array, "an Int32Array", elements));
}

TypedMemory Float64Array(Arguments& given, size_t at, const char* name, size_t elements) {
  return Lasting(given, name, given.Array(at, name, napi_float64_array, "a Float64Array", elements));
}

// nullptr, and the argument refused, unless it is one of this thread's.
ThreadEngine* EngineOf(Arguments& given, Napi::Env env) {
  uint32_t id = given.Uint32(0, "ring");
  ThreadEngine* engine = given.refused() ? nullptr : ThreadEngine::Find(env, id);
  if (!engine) given.RefuseRange("ring", "is none of this thread's");
  return engine;
}

Queue* QueueOf(Arguments& given, ThreadEngine* engine) {
  uint32_t id = given.Uint32(1, "queue");
  Queue* queue = given.refused() ? nullptr : engine->engine().queue(id);
  if (!queue) given.RefuseRange("queue", "is none of this ring's");
  return queue;
}

// Places in a queue's list of what it keeps; regions come after.
enum Kept { kTags, kResults, kOperations, kIov, kFirstRegion };

Napi::Value RingOpen(const Napi::CallbackInfo& info) {
  Arguments given(info, "ringOpen");
  Napi::Function on_ready = given.Function(0, "onReady");
  TypedMemory ready = Int32Array(given, 1, "ready", 2);
  bool with_ring = given.Flag(2, "uring");
  return given.refused() ? Nothing(info) : Int(info, ThreadEngine::Open(info.Env(), on_ready, ready, with_ring));
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
  Arguments given(info, "ringReaper");
  ThreadEngine* engine = EngineOf(given, info.Env());
  if (given.refused()) return Nothing(info);
  napi_value function;
  // An engine lives as long as its thread.
  napi_create_function(info.Env(), "reap", NAPI_AUTO_LENGTH, Reap, engine, &function);
  return Napi::Value(info.Env(), function);
}

Napi::Value RingEventFd(const Napi::CallbackInfo& info) {
  Arguments given(info, "ringEventFd");
  ThreadEngine* engine = EngineOf(given, info.Env());
  return given.refused() ? Nothing(info) : Int(info, engine->engine().event_fd());
}

Napi::Value QueueOpen(const Napi::CallbackInfo& info) {
  Arguments given(info, "queueOpen");
  ThreadEngine* engine = EngineOf(given, info.Env());
  auto depth = static_cast<uint32_t>(given.Whole(1, "depth", 1, kMaxDepth));
  QueueFiles files;
  files.main = given.Descriptor(2);
  files.buffered = given.Descriptor(3);
  files.block_device = given.Flag(4, "blockDevice");
  TypedMemory tags = Int32Array(given, 5, "tags", depth);
  TypedMemory results = Int32Array(given, 6, "results", depth);
  if (given.refused()) return Nothing(info);
  Queue* queue = engine->engine().AddQueue(depth, files);
  queue->tags = static_cast<int32_t*>(tags.data);
  queue->results = static_cast<int32_t*>(results.data);
  engine->Keep(*queue, kTags, info[5]);
  engine->Keep(*queue, kResults, info[6]);
  return Int(info, static_cast<int>(queue->id));
}

void QueueStaging(const Napi::CallbackInfo& info) {
  Arguments given(info, "queueStaging");
  ThreadEngine* engine = EngineOf(given, info.Env());
  Queue* queue = QueueOf(given, engine);
  TypedMemory operations = Float64Array(given, 2, "operations", queue ? queue->slots.size() * kStagedWords : 0);
  TypedMemory iov = Float64Array(given, 3, "iov", 0);
  if (given.refused()) return;
  queue->staged.operations = static_cast<double*>(operations.data);
  queue->staged.iov = static_cast<double*>(iov.data);
  queue->staged.iov_words = iov.length;
  engine->Keep(*queue, kOperations, info[2]);
  engine->Keep(*queue, kIov, info[3]);
}

void QueueRegion(const Napi::CallbackInfo& info) {
  Arguments given(info, "queueRegion");
  ThreadEngine* engine = EngineOf(given, info.Env());
  Queue* queue = QueueOf(given, engine);
  auto index = static_cast<size_t>(given.Whole(2, "region", 0, kMaxRegion));
  Region region;
  if (!info[3].IsUndefined()) {
    TypedMemory memory = given.Memory(3, "bytes");
    region = {static_cast<char*>(memory.data), memory.bytes};
  }
  // The kernel has been told of it.
  if (index == 0 && queue && queue->started) given.RefuseRange("region", "is 0, and the queue is in use");
  if (given.refused()) return;
  if (index >= queue->regions.size()) queue->regions.resize(index + 1);
  queue->regions[index] = region;
  engine->Keep(*queue, kFirstRegion + index, info[3]);
}

struct Starter {
  ThreadEngine* engine;
  uint32_t queue;
  uint64_t serial;

  // nullptr once it is closed, also when another queue has its number.
  Queue* Find() const {
    Queue* found = engine->engine().queue(queue);
    return found && found->serial == serial ? found : nullptr;
  }

  uint32_t Run(Queue* found, uint32_t count, bool reap) {
    engine->engine().Start(found, count);
    if (reap) return engine->Reap();
    engine->UpdateReference();
    return engine->engine().Ready();
  }
};

// Why so many operations cannot be started; or nullptr.
const char* WhyNot(const Queue* queue, uint32_t count) {
  if (!queue) return "start: the queue is closed";
  if (!queue->staged.operations || queue->regions.empty()) return "start: the queue has no staging or no memory";
  return count > queue->slots.size() - queue->in_flight ? "start: count is more than the queue has free slots" : nullptr;
}

napi_value Start(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  size_t given = 2;
  void* data;
  uint32_t count = 0;
  bool reap = false;
  napi_get_cb_info(env, info, &given, arguments, nullptr, &data);
  if (napi_get_value_uint32(env, arguments[0], &count) != napi_ok ||
      napi_get_value_bool(env, arguments[1], &reap) != napi_ok) {
    napi_throw_type_error(env, nullptr, "start: expected a number and a boolean");
    return nullptr;
  }
  auto* starter = static_cast<Starter*>(data);
  Queue* queue = starter->Find();
  if (const char* problem = WhyNot(queue, count)) {
    napi_throw_range_error(env, nullptr, problem);
    return nullptr;
  }
  napi_value result;
  napi_create_uint32(env, starter->Run(queue, count, reap), &result);
  return result;
}

Napi::Value QueueStarter(const Napi::CallbackInfo& info) {
  Arguments given(info, "queueStarter");
  ThreadEngine* engine = EngineOf(given, info.Env());
  Queue* queue = QueueOf(given, engine);
  if (given.refused()) return Nothing(info);
  auto* starter = new Starter{engine, queue->id, queue->serial};
  auto release = [](napi_env, void* data, void*) { delete static_cast<Starter*>(data); };
  napi_value function;
  napi_create_function(info.Env(), "start", NAPI_AUTO_LENGTH, Start, starter, &function);
  napi_add_finalizer(info.Env(), function, starter, release, nullptr, nullptr);
  return Napi::Value(info.Env(), function);
}

void QueueClose(const Napi::CallbackInfo& info) {
  Arguments given(info, "queueClose");
  ThreadEngine* engine = EngineOf(given, info.Env());
  Queue* queue = QueueOf(given, engine);
  if (queue && queue->in_flight > 0) given.RefuseRange("queue", "has operations in flight");
  if (given.refused()) return;
  engine->LetGo(*queue);
  engine->engine().RemoveQueue(queue);
}

// The words of the array that sleeps go by.
enum SleepWord { kSleepUnmaskBytes, kSleepEventfds, kSleepFirst, kSleepMicroseconds, kSleepReady, kSleepWords };

struct Sleeper {
  ThreadEngine* engine;
  LoopTime time;
  int32_t* words;
  uint32_t most_eventfds;
  SleepCall call;

  int Run() {
    call.unmask_bytes = std::min(static_cast<uint32_t>(words[kSleepUnmaskBytes]), call.ports_bytes);
    call.eventfd_count = std::min(static_cast<uint32_t>(words[kSleepEventfds]), most_eventfds);
    LoopTime::Span span = time.Next(words[kSleepFirst] != 0, words[kSleepMicroseconds]);
    if (span.microseconds == 0 && !span.limited) return UnmaskOnly();
    call.loop = time.descriptor();
    call.microseconds = span.microseconds;
    call.limited = span.limited;
    return engine->engine().Sleep(call);
  }

  /** It is the event loop's turn. */
  int UnmaskOnly() const {
    bool failed = call.unmask_bytes > 0 && write(call.events, call.unmask, call.unmask_bytes) < 0;
    return failed ? -errno : -EAGAIN;
  }
};

napi_value Sleep(napi_env env, napi_callback_info info) {
  void* sleeper;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &sleeper);
  napi_value result;
  napi_create_int32(env, static_cast<Sleeper*>(sleeper)->Run(), &result);
  return result;
}

Napi::Value RingSleeper(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Arguments given(info, "ringSleeper");
  ThreadEngine* engine = EngineOf(given, env);
  SleepCall call = {};
  call.events = given.Descriptor(1);
  TypedMemory words = Int32Array(given, 2, "control", kSleepWords);
  TypedMemory unmask = Lasting(given, "unmask", given.Memory(3, "unmask"));
  TypedMemory ports = Lasting(given, "ports", given.Memory(4, "ports"));
  TypedMemory eventfds = Int32Array(given, 5, "eventfds", 0);
  if (!given.refused() && unmask.bytes < ports.bytes) given.RefuseRange("unmask", "is shorter than ports");
  uv_loop_s* loop = nullptr;
  if (given.refused() || !engine->engine().CanSleep() || napi_get_uv_event_loop(env, &loop) != napi_ok) return Nothing(info);
  call.unmask = unmask.data;
  call.ports = ports.data;
  call.ports_bytes = static_cast<uint32_t>(ports.bytes);
  call.eventfds = static_cast<int32_t*>(eventfds.data);
  for (size_t i = 2; i <= 5; i++) engine->KeepForSleeps(info[i]);
  uint32_t most = std::min(static_cast<uint32_t>(eventfds.length), RingSleep::kMostEventfds);
  auto* sleeper = new Sleeper{engine, LoopTime(loop), static_cast<int32_t*>(words.data), most, call};
  auto release = [](napi_env, void* data, void*) { delete static_cast<Sleeper*>(data); };
  napi_value function;
  napi_create_function(env, "sleep", NAPI_AUTO_LENGTH, Sleep, sleeper, &function);
  napi_add_finalizer(env, function, sleeper, release, nullptr, nullptr);
  return Napi::Value(env, function);
}

Napi::Value RingEndSleeps(const Napi::CallbackInfo& info) {
  Arguments given(info, "ringEndSleeps");
  ThreadEngine* engine = EngineOf(given, info.Env());
  TypedMemory words = Int32Array(given, 1, "control", kSleepWords);
  if (given.refused()) return Nothing(info);
  int result = engine->engine().EndSleeps();
  static_cast<int32_t*>(words.data)[kSleepReady] = engine->engine().Ready();
  return Int(info, result);
}

// Does `work` on the thread pool, then calls `done` with the result.
void InPool(Napi::Env env, Napi::Function done, std::function<int()> work) {
  auto callback = std::make_shared<Napi::FunctionReference>(Napi::Persistent(done));
  auto call = [callback](Napi::Env at, int result) { callback->Call({Napi::Number::New(at, result)}); };
  PoolWork::Start(env, std::move(work), call);
}

void Range(const Napi::CallbackInfo& info) {
  Arguments given(info, "range");
  auto op = static_cast<int>(given.Whole(0, "op", kDiscard, kWriteZeroes));
  int fd = given.Descriptor(1);
  bool block_device = given.Flag(2, "blockDevice");
  auto offset = static_cast<uint64_t>(given.Bytes(3, "offset"));
  auto length = static_cast<uint64_t>(given.Bytes(4, "length"));
  Napi::Function done = given.Function(5, "done");
  if (given.refused()) return;
  InPool(info.Env(), done, [=] { return PerformRange(op, fd, block_device, offset, length); });
}

void DropCache(const Napi::CallbackInfo& info) {
  Arguments given(info, "dropCache");
  int fd = given.Descriptor(0);
  Napi::Function done = given.Function(1, "done");
  if (!given.refused()) InPool(info.Env(), done, [fd] { return DropPageCache(fd); });
}

void Extents(const Napi::CallbackInfo& info) {
  Arguments given(info, "extents");
  int fd = given.Descriptor(0);
  auto offset = static_cast<uint64_t>(given.Bytes(1, "offset"));
  auto length = static_cast<uint64_t>(given.Bytes(2, "length"));
  Napi::Function done = given.Function(3, "done");
  if (given.refused()) return;
  auto callback = std::make_shared<Napi::FunctionReference>(Napi::Persistent(done));
  auto ends = std::make_shared<std::vector<double>>();
  auto call = [callback, ends](Napi::Env at, int result) {
    auto found = Napi::Float64Array::New(at, ends->size());
    for (size_t i = 0; i < ends->size(); i++) found[i] = (*ends)[i];
    callback->Call({Napi::Number::New(at, result), found});
  };
  PoolWork::Start(info.Env(), [=] { return FindExtents(fd, offset, length, ends.get()); }, call);
}

Napi::Value Punch(const Napi::CallbackInfo& info) {
  Arguments given(info, "punch");
  int fd = given.Descriptor(0);
  auto offset = static_cast<uint64_t>(given.Bytes(1, "offset"));
  auto length = static_cast<uint64_t>(given.Bytes(2, "length"));
  return given.refused() ? Nothing(info) : Int(info, PerformRange(kDiscard, fd, false, offset, length));
}

Napi::Value DirectAlign(const Napi::CallbackInfo& info) {
  Arguments given(info, "directAlignment");
  int fd = given.Descriptor(0);
  TypedMemory alignments = given.Array(1, "alignments", napi_float64_array, "a Float64Array", 2);
  if (given.refused()) return Nothing(info);
  auto* words = static_cast<double*>(alignments.data);
  return Int(info, DirectAlignment(fd, &words[0], &words[1]));
}

// An ArrayBuffer over memory of whole pages, or a negative errno.
Napi::Value Allocate(const Napi::CallbackInfo& info) {
  Arguments given(info, "allocate");
  size_t bytes = given.MemoryBytes(0, "bytes");
  if (given.refused()) return Nothing(info);
  using Owner = std::shared_ptr<GuardedMemory>;
  Owner memory = GuardedMemory::Allocate(bytes);
  if (!memory) return Int(info, -ENOMEM);
  auto release = [](Napi::Env, void*, Owner* owner) { delete owner; };
  return Napi::ArrayBuffer::New(info.Env(), memory->data(), memory->bytes(), release, new Owner(memory));
}

Napi::Value Address(const Napi::CallbackInfo& info) {
  Arguments given(info, "address");
  TypedMemory memory = given.Memory(0, "bytes");
  if (given.refused()) return Nothing(info);
  return Napi::Number::New(info.Env(), static_cast<double>(reinterpret_cast<uintptr_t>(memory.data)));
}

// One that does something with a byte of a file, as its lock.
template <int (*Do)(int fd, off_t byte)>
Napi::Value ByteCall(const Napi::CallbackInfo& info) {
  Arguments given(info, "lock");
  int fd = given.Descriptor(0);
  auto byte = static_cast<off_t>(given.Bytes(1, "byte"));
  return given.refused() ? Nothing(info) : Int(info, Do(fd, byte));
}

Napi::Value Duplicate(const Napi::CallbackInfo& info) {
  Arguments given(info, "duplicate");
  int fd = given.Descriptor(0);
  return given.refused() ? Nothing(info) : Int(info, DuplicateDescriptor(fd));
}

void CloseDuplicate(const Napi::CallbackInfo& info) {
  Arguments given(info, "closeDuplicate");
  int fd = given.Descriptor(0);
  Napi::Function done = given.Function(1, "done");
  if (!given.refused()) InPool(info.Env(), done, [fd] { return CloseDescriptor(fd); });
}

template <typename Callback>
void Export(Napi::Object exports, const char* name, Callback callback) {
  exports.Set(name, Napi::Function::New(exports.Env(), callback, name));
}

Napi::Object Init(Napi::Env, Napi::Object exports) {
  Export(exports, "ringOpen", RingOpen);
  Export(exports, "ringReaper", RingReaper);
  Export(exports, "ringEventFd", RingEventFd);
  Export(exports, "ringSleeper", RingSleeper);
  Export(exports, "ringEndSleeps", RingEndSleeps);
  Export(exports, "queueOpen", QueueOpen);
  Export(exports, "queueStaging", QueueStaging);
  Export(exports, "queueRegion", QueueRegion);
  Export(exports, "queueStarter", QueueStarter);
  Export(exports, "queueClose", QueueClose);
  Export(exports, "range", Range);
  Export(exports, "dropCache", DropCache);
  Export(exports, "extents", Extents);
  Export(exports, "punch", Punch);
  Export(exports, "directAlignment", DirectAlign);
  Export(exports, "allocate", Allocate);
  Export(exports, "address", Address);
  Export(exports, "lockByte", ByteCall<LockByte>);
  Export(exports, "unlockByte", ByteCall<UnlockByte>);
  Export(exports, "byteLockedElsewhere", ByteCall<ByteLockedElsewhere>);
  Export(exports, "duplicate", Duplicate);
  Export(exports, "closeDuplicate", CloseDuplicate);
  return exports;
}

}  // namespace

}  // namespace blockdev

static Napi::Object InitModule(Napi::Env env, Napi::Object exports) { return blockdev::Init(env, exports); }

NODE_API_MODULE(blockdev, InitModule)
