#ifndef BLOCKDEV_THREAD_ENGINE_H
#define BLOCKDEV_THREAD_ENGINE_H

#include <napi.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "engine.h"
#include "guarded-memory.h"
#include "typed-memory.h"
#include "uv-poll.h"
#include "work-threads.h"

namespace blockdev {

// The engine of one JavaScript thread in its event loop, or one of them: there is one with io_uring and one that has threads
// do all, and a thread that loads the package both as ES modules and as CommonJS has each twice. It lives as long as its thread, and then until the kernel is done with the
// thread's memory.
class ThreadEngine {
 public:
  // Makes one and adds it to the environment's. Its id, or a negative errno. `on_ready` is called by the event loop
  // when there are completions, for which `ready` has room in pairs. `with_ring`: of io_uring; else threads do all.
  static int Open(Napi::Env env, Napi::Function on_ready, const TypedMemory& ready, bool with_ring);
  // nullptr when there is none, or the thread is about to end.
  static ThreadEngine* Find(Napi::Env env, uint32_t id);

  Engine& engine() { return engine_; }
  // Collects completions into the array given to Open; returns the number of pairs.
  uint32_t Reap();
  // Keeps the event loop alive while something is in flight.
  void UpdateReference();
  // Keeps the memory of a typed array for a queue, in that place of its list, instead of what is there. What operations
  // in flight may still use is kept until they are over. Anything else than an object empties the place.
  void Keep(const Queue& queue, size_t place, Napi::Value array);
  // Keeps the memory of an array for sleeps, as long as the thread.
  void KeepForSleeps(Napi::Value array);
  // Lets go of all that a queue has; nothing of it is in flight. Its threads end.
  void LetGo(const Queue& queue);

 private:
  // A typed array, and its memory where that is ours: a buffer can be detached, which frees it.
  struct Kept {
    Napi::ObjectReference array;
    std::shared_ptr<GuardedMemory> memory;
  };
  struct KeptOfQueue {
    std::vector<Kept> places;
    std::vector<Kept> retired;
    std::shared_ptr<WorkThreads> threads;
  };

  ThreadEngine(napi_env env, uint32_t id, Napi::Function on_ready, const TypedMemory& ready);

  int Attach(bool with_ring);
  void CallJavaScript();
  void RunWork(uint32_t queue, uint32_t slot, std::function<int()> work);
  void TakeWork();
  void DrainWork(int seconds);
  static void OnReadable(uv_poll_s* handle, int status, int events);
  static void OnExit(napi_async_cleanup_hook_handle handle, void* data);
  static void OnClosed(uv_poll_s* handle);

  napi_env env_;
  uint32_t id_;
  Napi::FunctionReference on_ready_;
  Kept ready_;
  int32_t* ready_words_;
  uint32_t ready_room_;
  uv_poll_s* poll_ = nullptr;
  bool referenced_ = false;
  napi_async_cleanup_hook_handle cleanup_ = nullptr;
  std::vector<KeptOfQueue> kept_;  // by queue
  std::vector<Kept> kept_for_sleeps_;
  std::shared_ptr<FinishedWork> finished_;
  std::vector<FinishedWork::Result> taken_;
  uint32_t working_ = 0;  // operations that threads have
  Engine engine_{[this](uint32_t queue, uint32_t slot, auto work) { RunWork(queue, slot, std::move(work)); }};
};

}  // namespace blockdev

#endif
