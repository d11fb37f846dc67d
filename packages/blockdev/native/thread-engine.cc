#include "thread-engine.h"

#include <poll.h>

#include <cerrno>
#include <cstdlib>
#include <memory>

namespace blockdev {

namespace {

const int kDrainSeconds = 30;
// Of a queue. As many calls as libuv's pool has at once for all that a process does.
const unsigned kThreadsOfQueue = 4;

// The environment's engines by their ids; nullptr when the thread is about to end.
struct InstanceData {
  std::vector<ThreadEngine*> engines;
};

std::vector<ThreadEngine*>& EnginesOf(Napi::Env env) {
  auto* data = env.GetInstanceData<InstanceData>();
  if (!data) env.SetInstanceData(data = new InstanceData());
  return data->engines;
}

}  // namespace

ThreadEngine::ThreadEngine(napi_env env, uint32_t id, Napi::Function on_ready, const TypedMemory& ready)
    : env_(env), id_(id), on_ready_(Napi::Persistent(on_ready)) {
  ready_ = {Napi::Persistent(ready.buffer.As<Napi::Object>()), GuardedMemory::Find(ready.data)};
  ready_words_ = static_cast<int32_t*>(ready.data);
  ready_room_ = static_cast<uint32_t>(ready.length / 2);
}

int ThreadEngine::Open(Napi::Env env, Napi::Function on_ready, const TypedMemory& ready, bool with_ring) {
  std::vector<ThreadEngine*>& engines = EnginesOf(env);
  auto id = static_cast<uint32_t>(engines.size());
  std::unique_ptr<ThreadEngine> engine(new ThreadEngine(env, id, on_ready, ready));
  int result = engine->Attach(with_ring);
  if (result < 0) return result;
  engines.push_back(engine.release());
  return static_cast<int>(id);
}

ThreadEngine* ThreadEngine::Find(Napi::Env env, uint32_t id) {
  std::vector<ThreadEngine*>& engines = EnginesOf(env);
  return id < engines.size() ? engines[id] : nullptr;
}

int ThreadEngine::Attach(bool with_ring) {
  int result = engine_.Open(with_ring);
  if (result < 0) return result;
  finished_ = std::make_shared<FinishedWork>(engine_.event_fd());
  uv_loop_s* loop = nullptr;
  if (napi_get_uv_event_loop(env_, &loop) != napi_ok) return -ENOTSUP;
  poll_ = static_cast<uv_poll_s*>(calloc(1, uv_handle_size(kUvPollHandle)));
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
  if (working_ > 0) TakeWork();
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

void ThreadEngine::Keep(const Queue& queue, size_t place, Napi::Value array) {
  if (queue.id >= kept_.size()) kept_.resize(queue.id + 1);
  KeptOfQueue& kept = kept_[queue.id];
  if (place >= kept.places.size()) kept.places.resize(place + 1);
  if (queue.in_flight > 0) kept.retired.push_back(std::move(kept.places[place]));
  else kept.retired.clear();
  TypedMemory memory(array);
  if (memory.is_array) {
    kept.places[place] = {Napi::Persistent(memory.buffer.As<Napi::Object>()), GuardedMemory::Find(memory.data)};
  } else {
    kept.places[place] = {};
  }
}

void ThreadEngine::KeepForSleeps(Napi::Value array) {
  TypedMemory memory(array);
  kept_for_sleeps_.push_back({Napi::Persistent(memory.buffer.As<Napi::Object>()), GuardedMemory::Find(memory.data)});
}

void ThreadEngine::LetGo(const Queue& queue) {
  if (queue.id >= kept_.size()) return;
  if (kept_[queue.id].threads) kept_[queue.id].threads->Close();
  kept_[queue.id] = {};
}

void ThreadEngine::RunWork(uint32_t queue, uint32_t slot, std::function<int()> work) {
  std::shared_ptr<WorkThreads>& threads = kept_[queue].threads;
  if (!threads) threads = std::make_shared<WorkThreads>(kThreadsOfQueue);
  working_++;
  auto run = [finished = finished_, queue, slot, work = std::move(work)] { finished->Add({queue, slot, work()}); };
  if (!threads->Start(std::move(run))) finished_->Add({queue, slot, -ENOMEM});
}

// What threads have finished, to the engine.
void ThreadEngine::TakeWork() {
  finished_->Take(taken_);
  for (const FinishedWork::Result& done : taken_) engine_.WorkDone(done.queue, done.slot, done.result);
  working_ -= static_cast<uint32_t>(taken_.size());
  taken_.clear();
}

void ThreadEngine::DrainWork(int seconds) {
  for (int turn = 0; turn < seconds * 10; turn++) {
    TakeWork();
    if (working_ == 0) return;
    pollfd wait = {engine_.event_fd(), POLLIN, 0};
    poll(&wait, 1, 100);
    engine_.ClearEvent();
  }
}

// The thread ends, perhaps with operations in flight: their memory must outlive them.
void ThreadEngine::OnExit(napi_async_cleanup_hook_handle, void* data) {
  auto* self = static_cast<ThreadEngine*>(data);
  EnginesOf(self->env_)[self->id_] = nullptr;
  self->engine_.Drain(kDrainSeconds);
  self->DrainWork(kDrainSeconds);
  for (auto& queue : self->kept_) {
    if (queue.threads) queue.threads->Close();
  }
  uv_close(self->poll_, OnClosed);
}

void ThreadEngine::OnClosed(uv_poll_s* handle) {
  auto* self = static_cast<ThreadEngine*>(uv_handle_get_data(handle));
  free(handle);
  napi_async_cleanup_hook_handle cleanup = self->cleanup_;
  // The environment frees the references itself.
  self->on_ready_.SuppressDestruct();
  self->ready_.array.SuppressDestruct();
  for (auto& kept : self->kept_for_sleeps_) kept.array.SuppressDestruct();
  for (auto& queue : self->kept_) {
    for (auto& kept : queue.places) kept.array.SuppressDestruct();
    for (auto& kept : queue.retired) kept.array.SuppressDestruct();
  }
  // Storage that hangs may still write to the memory.
  if (self->working_ == 0) delete self;
  napi_remove_async_cleanup_hook(cleanup);
}

}  // namespace blockdev
