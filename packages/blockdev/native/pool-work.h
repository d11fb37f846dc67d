#ifndef BLOCKDEV_POOL_WORK_H
#define BLOCKDEV_POOL_WORK_H

#include <napi.h>

#include <functional>
#include <utility>

namespace blockdev {

// Work on libuv's thread pool; calls `done` with its result on the JavaScript thread, then frees itself.
class PoolWork : public Napi::AsyncWorker {
 public:
  using Work = std::function<int()>;
  using Done = std::function<void(Napi::Env, int)>;

  static void Start(Napi::Env env, Work work, Done done) {
    (new PoolWork(env, std::move(work), std::move(done)))->Queue();
  }

  void Execute() override { result_ = work_(); }
  void OnOK() override { done_(Env(), result_); }

 private:
  PoolWork(Napi::Env env, Work work, Done done) : AsyncWorker(env), work_(std::move(work)), done_(std::move(done)) {}

  Work work_;
  int result_ = 0;
  Done done_;
};

}  // namespace blockdev

#endif
