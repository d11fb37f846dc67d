#include "work-threads.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <mutex>
#include <utility>

namespace blockdev {

namespace {

const int kIdleSeconds = 10;

}  // namespace

bool WorkThreads::Start(std::function<void()> work) {
  std::lock_guard<PthreadMutex> lock(mutex_);
  waiting_.push_back(std::move(work));
  if (idle_ >= waiting_.size()) {
    pthread_cond_signal(&wake_);
    return true;
  }
  if (threads_ == most_ || MakeThread() || threads_ > 0) return true;
  waiting_.pop_back();
  return false;
}

bool WorkThreads::MakeThread() {
  auto* own = new std::shared_ptr<WorkThreads>(shared_from_this());
  // Signals are for the other threads of the process.
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  bool made = pthread_create(&thread, nullptr, Run, own) == 0;
  sigprocmask(SIG_SETMASK, &before, nullptr);
  if (!made) {
    delete own;
    return false;
  }
  pthread_detach(thread);
  threads_++;
  return true;
}

void* WorkThreads::Run(void* own) {
  std::shared_ptr<WorkThreads> self = std::move(*static_cast<std::shared_ptr<WorkThreads>*>(own));
  delete static_cast<std::shared_ptr<WorkThreads>*>(own);
  prctl(PR_SET_NAME, "disk-io");
  self->Loop();
  return nullptr;
}

void WorkThreads::Loop() {
  mutex_.lock();
  while (AwaitWork()) {
    std::function<void()> work = std::move(waiting_.front());
    waiting_.pop_front();
    mutex_.unlock();
    work();
    work = nullptr;
    mutex_.lock();
  }
  threads_--;
  mutex_.unlock();
}

// With the lock held. False when there has been none for a while, or will be none.
bool WorkThreads::AwaitWork() {
  if (!waiting_.empty()) return true;
  timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += kIdleSeconds;
  idle_++;
  int result = 0;
  while (waiting_.empty() && !closed_ && result != ETIMEDOUT) {
    result = pthread_cond_timedwait(&wake_, mutex_.native(), &until);
  }
  idle_--;
  return !waiting_.empty();
}

void WorkThreads::Close() {
  std::lock_guard<PthreadMutex> lock(mutex_);
  closed_ = true;
  pthread_cond_broadcast(&wake_);
}

FinishedWork::FinishedWork(int event_fd) : event_fd_(fcntl(event_fd, F_DUPFD_CLOEXEC, 0)) {}

FinishedWork::~FinishedWork() {
  if (event_fd_ >= 0) close(event_fd_);
}

void FinishedWork::Add(Result result) {
  mutex_.lock();
  bool first = results_.empty();
  results_.push_back(result);
  mutex_.unlock();
  // Who takes them takes all.
  if (first) eventfd_write(event_fd_, 1);
}

void FinishedWork::Take(std::vector<Result>& results) {
  std::lock_guard<PthreadMutex> lock(mutex_);
  results_.swap(results);
}

}  // namespace blockdev
