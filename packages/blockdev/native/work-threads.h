#ifndef BLOCKDEV_WORK_THREADS_H
#define BLOCKDEV_WORK_THREADS_H

#include <pthread.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

namespace blockdev {

class PthreadMutex {
 public:
  void lock() { pthread_mutex_lock(&mutex_); }
  void unlock() { pthread_mutex_unlock(&mutex_); }
  pthread_mutex_t* native() { return &mutex_; }

 private:
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

// Threads for calls that block, of one queue alone: libuv's pool has four for the whole process, and a disk whose storage
// hangs would take them all. They are made when there is work for them and end when there has been none for a while. Who
// lets go of the object leaves calls that hang to themselves.
class WorkThreads : public std::enable_shared_from_this<WorkThreads> {
 public:
  explicit WorkThreads(unsigned most) : most_(most) {}
  WorkThreads(const WorkThreads&) = delete;
  WorkThreads& operator=(const WorkThreads&) = delete;

  // False if there is no thread to do it and none can be made.
  bool Start(std::function<void()> work);
  // Idle threads end.
  void Close();

 private:
  bool MakeThread();
  static void* Run(void* own);
  void Loop();
  bool AwaitWork();

  const unsigned most_;
  PthreadMutex mutex_;
  pthread_cond_t wake_ = PTHREAD_COND_INITIALIZER;
  std::deque<std::function<void()>> waiting_;
  unsigned threads_ = 0;
  unsigned idle_ = 0;
  bool closed_ = false;
};

// Results of work, handed over to the thread whose event loop watches the descriptor.
class FinishedWork {
 public:
  struct Result {
    uint32_t queue, slot;
    int result;
  };

  // Keeps a duplicate of the eventfd.
  explicit FinishedWork(int event_fd);
  ~FinishedWork();
  FinishedWork(const FinishedWork&) = delete;
  FinishedWork& operator=(const FinishedWork&) = delete;

  // By any thread.
  void Add(Result result);
  // Exchanges what was added since for the empty `results`.
  void Take(std::vector<Result>& results);

 private:
  int event_fd_;
  PthreadMutex mutex_;
  std::vector<Result> results_;
};

}  // namespace blockdev

#endif
