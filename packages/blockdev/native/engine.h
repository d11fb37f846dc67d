#ifndef BLOCKDEV_ENGINE_H
#define BLOCKDEV_ENGINE_H

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "queue.h"
#include "registrations.h"
#include "ring-sleep.h"
#include "slots.h"
#include "uring.h"

namespace blockdev {

// Does the work of an operation off this thread, then calls Engine::WorkDone with its result on this one.
using WorkRunner = std::function<void(uint32_t queue, uint32_t slot, std::function<int()> work)>;

// All queues of one thread that have the same engine, io_uring or threads: one ring, one descriptor to poll. A batch in is one call of Start, completions of
// all queues out is one call of Reap.
//
// What must hold: a queue's arrays and regions live until nothing of it is in flight; no more operations are in flight
// than it has slots; it has staging and region 0 before it is started. What never happens: a queue gets completions from inside Start; memory that the kernel still uses
// is freed (Drain waits for it when a thread ends early).
class Engine {
 public:
  explicit Engine(WorkRunner runner) : run_work_(std::move(runner)) {}
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // `with_ring`: io_uring. Without, all work is off this thread.
  int Open(bool with_ring);
  int event_fd() const { return with_ring_ ? ring_.event_fd() : own_event_fd_; }
  void ClearEvent();
  uint32_t in_flight() const { return in_flight_; }

  Queue* AddQueue(uint32_t depth, const QueueFiles& files);
  Queue* queue(uint32_t id) { return id < queues_.size() ? queues_[id].get() : nullptr; }
  // Nothing of it is in flight.
  void RemoveQueue(Queue* queue);

  // Starts the first `count` staged operations, for which the queue has free slots. Entries that the kernel refuses for now stay pending.
  void Start(Queue* queue, uint32_t count);
  // Whether Reap must be called without waiting for the event.
  bool Ready() const { return !finished_.empty() || ring_.pending() > 0 || ring_.Ready(); }

  // Collects completions: writes pairs (queue id, count) to `ready`; the queues' arrays hold the rest. Returns the
  // number of pairs, at most `room`; when it is `room` there may be more.
  uint32_t Reap(int32_t* ready, uint32_t room);

  // Whether threads can Sleep in the ring.
  bool CanSleep() const { return with_ring_ && ring_.CanSleep(); }
  // Sleeps until something is to be done: returns the bytes of a read of the event channels; 0 for completions, of this
  // engine or by an eventfd, which is reset; -ETIME when the caller's time is over, -EAGAIN when it is the event loop's
  // turn; another negative errno when the event channels cannot be read. EndSleeps must follow the last of a series.
  int Sleep(const SleepCall& call);
  // Nothing of sleeps is with the kernel any more. Returns the bytes of a read that came meanwhile, or 0.
  int EndSleeps();

  void WorkDone(uint32_t queue, uint32_t slot, int result);

  // Waits for what the kernel still does with our memory, at most about `seconds`.
  void Drain(int seconds);

 private:
  struct Finished {
    uint32_t queue, slot;
    int result;
  };

  io_uring_sqe* NextEntry();
  io_uring_sqe* NextSilent();
  const io_uring_cqe* PeekOperation();
  void Stash();
  bool TakeEarly(Queue* queue, uint32_t count);
  void StartOne(Queue* queue, const double* words);
  void Issue(Queue* queue, uint32_t index);
  void IssueWork(const Queue& queue, uint32_t index, Slot& slot);
  void LimitWorkers();
  void Handle(Queue* queue, uint32_t index, int result);
  void Finish(Queue* queue, uint32_t index);
  bool Room(Queue* queue, int32_t* ready, uint32_t room);

  bool with_ring_ = false;
  int own_event_fd_ = -1;  // without a ring
  Uring ring_;
  Registrations registrations_{ring_};
  RingSleep sleep_;
  bool sleeps_ = false;  // since the first Sleep of a series
  WorkRunner run_work_;
  KernelLimits limits_;
  std::vector<std::unique_ptr<Queue>> queues_;
  std::vector<Finished> finished_;  // results not yet handled
  uint64_t serial_ = 0;  // of the youngest queue
  uint32_t in_flight_ = 0;
  uint32_t on_ring_ = 0;  // those of them that the kernel's ring knows
  uint32_t ready_count_ = 0;
  uint32_t depths_ = 0;   // of all queues
  uint32_t workers_ = 0;  // that the kernel was allowed
};

}  // namespace blockdev

#endif
