#ifndef BLOCKDEV_THREAD_ENGINE_H
#define BLOCKDEV_THREAD_ENGINE_H

#include <napi.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "engine.h"
#include "uv-poll.h"

namespace blockdev {

// The io_uring engine of one JavaScript thread in its event loop, or one of them: a thread that loads the package both
// as ES modules and as CommonJS has two. It lives as long as its thread, and then until the kernel is done with the
// thread's memory.
class ThreadEngine {
 public:
  // Makes one and adds it to the environment's. Its id, or a negative errno. `on_ready` is called by the event loop
  // when there are completions, for which `ready` has room in pairs.
  static int Open(Napi::Env env, Napi::Function on_ready, Napi::Int32Array ready);
  // nullptr when the thread is about to end.
  static ThreadEngine* Find(Napi::Env env, uint32_t id);

  Engine& engine() { return engine_; }
  // Collects completions into the array given to Open; returns the number of pairs.
  uint32_t Reap();
  // Keeps the event loop alive while something is in flight.
  void UpdateReference();
  // Objects of JavaScript that a queue must keep alive.
  std::vector<Napi::ObjectReference>& references(uint32_t queue);

 private:
  ThreadEngine(napi_env env, uint32_t id, Napi::Function on_ready, Napi::Int32Array ready);

  int Attach();
  void CallJavaScript();
  void RunWork(uint32_t queue, uint32_t slot, std::function<int()> work);
  static void OnReadable(uv_poll_s* handle, int status, int events);
  static void OnExit(napi_async_cleanup_hook_handle handle, void* data);
  static void OnClosed(uv_poll_s* handle);

  napi_env env_;
  uint32_t id_;
  Napi::FunctionReference on_ready_;
  Napi::Reference<Napi::Int32Array> ready_;
  int32_t* ready_words_;
  uint32_t ready_room_;
  uv_poll_s* poll_ = nullptr;
  bool referenced_ = false;
  napi_async_cleanup_hook_handle cleanup_ = nullptr;
  std::vector<std::vector<Napi::ObjectReference>> references_;  // by queue
  Engine engine_{[this](uint32_t queue, uint32_t slot, auto work) { RunWork(queue, slot, std::move(work)); }};
};

}  // namespace blockdev

#endif
