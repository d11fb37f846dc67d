#ifndef BLOCKDEV_QUEUE_H
#define BLOCKDEV_QUEUE_H

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace blockdev {

// What JavaScript has staged: arrays of src/queue/staging.ts, whose layout slots.h has.
struct Staged {
  const double* operations = nullptr;
  const double* iov = nullptr;
};

// One operation from its submission to its last completion; slots.h has what is done with it.
struct Slot {
  int32_t tag = 0;
  int32_t op = 0;
  int32_t result = 0;
  bool bounced = false;    // its own memory is none for O_DIRECT
  bool punch = false;      // a write of zeroes that has to make a hole
  bool on_thread = false;  // the ring's way was refused for now
  bool in_memory = false;  // the data is in the queue's memory, region 0
  uint64_t offset = 0;     // of what is left
  uint64_t left = 0;
  uint64_t length = 0;
  uint32_t iov_at = 0;
  std::vector<iovec> iov;
  std::shared_ptr<char> bounce;  // memory for its next part, if it is bounced
  uint32_t next_free = 0;
};

struct QueueFiles {
  int main = -1;
  int buffered = -1;    // without O_DIRECT; often the same
  int main_fixed = -1;  // index in the ring's table of files, or -1
  bool block_device = false;

  bool direct() const { return main != buffered; }
};

struct Queue {
  uint32_t id = 0;
  QueueFiles files;
  Staged staged;
  std::vector<char*> regions;
  size_t memory_bytes = 0;  // of region 0
  bool started = false;
  uint32_t not_early = 0;  // large batches to come that are begun at once
  int memory_fixed = -1;   // index of region 0 in the ring's table of buffers, or -1
  std::vector<Slot> slots;
  uint32_t free_slot = 0;
  uint32_t in_flight = 0;
  // Where completions go: arrays of JavaScript with room for every slot.
  int32_t* tags = nullptr;
  int32_t* results = nullptr;
  uint32_t completed = 0;
  bool ready = false;  // among the ready queues of this pass
};

}  // namespace blockdev

#endif
