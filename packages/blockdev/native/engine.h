#ifndef BLOCKDEV_ENGINE_H
#define BLOCKDEV_ENGINE_H

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "uring.h"

namespace blockdev {

// Layout of what JavaScript stages: src/staging.ts and IOV_WORDS in src/block-image.ts.
const int kStagedWords = 6;
const int kIovWords = 3;

struct Staged {
  const double* operations = nullptr;
  const double* iov = nullptr;
};

// One operation from its submission to its last completion.
struct Slot {
  int32_t tag = 0;
  int32_t op = 0;
  int32_t result = 0;
  bool buffered = false;  // goes to the descriptor without O_DIRECT
  bool punch = false;     // a write of zeroes that has to make a hole
  bool in_memory = false; // the data is in the queue's memory, region 0
  uint64_t offset = 0;    // of what is left
  uint64_t left = 0;
  uint32_t length = 0;
  uint32_t iov_at = 0;
  std::vector<iovec> iov;
  uint32_t next_free = 0;
};

struct QueueFiles {
  int main = -1;
  int buffered = -1;
  int main_fixed = -1;  // index in the ring's file table, or -1
  bool block_device = false;
};

// Memory that the ring's table of buffers knows: direct input and output need not look its pages up each time.
struct FixedMemory {
  const char* base = nullptr;
  uint32_t users = 0;
};

struct Queue {
  uint32_t id = 0;
  QueueFiles files;
  Staged staged;
  std::vector<char*> regions;
  size_t memory_bytes = 0;  // of region 0
  bool started = false;
  uint32_t not_early = 0;  // large batches to come that are begun at once
  int memory_fixed = -1;  // index of region 0 in the ring's table of buffers, or -1
  std::vector<Slot> slots;
  uint32_t free_slot = 0;
  uint32_t in_flight = 0;
  // Where completions go: arrays of JavaScript with room for every slot.
  int32_t* tags = nullptr;
  int32_t* results = nullptr;
  uint32_t completed = 0;
  bool ready = false;  // among the ready queues of this pass
};

// Runs a range operation off this thread, then calls Engine::RangeDone on it.
using RangeRunner = std::function<void(uint32_t queue, uint32_t slot, int op, int fd, uint64_t offset, uint64_t length)>;

// All io_uring queues of one thread: one ring, one descriptor to poll.
class Engine {
 public:
  explicit Engine(RangeRunner runner) : run_range_(std::move(runner)) {}

  int Open();
  int event_fd() const { return ring_.event_fd(); }
  void ClearEvent() { ring_.ClearEvent(); }
  uint32_t in_flight() const { return in_flight_; }

  Queue* AddQueue(uint32_t depth, const QueueFiles& files);
  Queue* queue(uint32_t id) { return id < queues_.size() ? queues_[id].get() : nullptr; }
  // Nothing of it is in flight.
  void RemoveQueue(Queue* queue);

  // Starts the first `count` staged operations. Entries that the kernel refuses for now stay pending.
  void Start(Queue* queue, uint32_t count);
  // Whether Reap must be called without waiting for the event.
  bool Ready() const { return ring_.pending() > 0 || ring_.Ready(); }

  // Collects completions: writes pairs (queue id, count) to `ready`; the queues' arrays hold the rest. Returns the
  // number of pairs, at most `room`; when it is `room` there may be more.
  uint32_t Reap(int32_t* ready, uint32_t room);

  void RangeDone(uint32_t queue, uint32_t slot, int result);

  // Waits for what the kernel still does with our memory, at most about `seconds`.
  void Drain(int seconds);

 private:
  struct Finished {
    uint32_t queue, slot;
    int result;
  };

  io_uring_sqe* NextEntry();
  void Stash();
  void StartOne(Queue* queue, const double* words);
  void Issue(Queue* queue, uint32_t index);
  void IssueTransfer(io_uring_sqe* entry, const Queue* queue, Slot& slot);
  void IssueRange(io_uring_sqe* entry, Queue* queue, Slot& slot);
  bool Handle(Queue* queue, uint32_t index, int result);
  bool Transferred(Queue* queue, Slot& slot, int bytes);
  bool Retry(Queue* queue, Slot& slot, int error);
  void Finish(Queue* queue, uint32_t index);
  bool Room(Queue* queue, int32_t* ready, uint32_t room);
  int FixFile(int fd);
  int FixMemory(char* base, size_t bytes);
  void ReleaseMemory(int index);
  int SetMemory(size_t index, char* base, size_t bytes);

  Uring ring_;
  RangeRunner run_range_;
  std::vector<std::unique_ptr<Queue>> queues_;
  std::vector<Finished> finished_;  // results not yet handled
  std::vector<int> fixed_;  // descriptors in the ring's file table, -1 where free
  std::vector<FixedMemory> fixed_memory_;
  uint32_t in_flight_ = 0;
  uint32_t on_ring_ = 0;  // those of them that the kernel's ring knows
  uint32_t ready_count_ = 0;
  bool device_discard_ = true;  // until the kernel says that io_uring cannot (6.12 can)
};

}  // namespace blockdev

#endif
