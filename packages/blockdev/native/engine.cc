#include "engine.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "ranges.h"

#ifndef RWF_DSYNC
#define RWF_DSYNC 0x2
#endif
#ifndef IORING_RSRC_REGISTER_SPARSE
#define IORING_RSRC_REGISTER_SPARSE (1U << 0)
#endif

namespace blockdev {

namespace {

const unsigned kEntries = 1024;
const unsigned kFewEntries = 16;
const unsigned kCompletionsPerEntry = 8;
const unsigned kFixedFiles = 512;
const unsigned kFixedMemories = 64;
const size_t kFixedMemoryMax = size_t{1} << 30;  // the kernel's limit

// IORING_REGISTER_BUFFERS2 and IORING_REGISTER_BUFFERS_UPDATE (5.13), and what they take, for older headers.
const unsigned kRegisterBuffers2 = 15;
const unsigned kRegisterBuffersUpdate = 16;
struct ResourceTable {
  uint32_t count, flags;
  uint64_t reserved, data, tags;
};
struct ResourceUpdate {
  uint32_t offset, reserved;
  uint64_t data, tags;
  uint32_t count, reserved2;
};
const uint32_t kIovMax = 1024;  // UIO_MAXIOV
const uint32_t kNone = UINT32_MAX;
const uint64_t kSector = 512;
const uint32_t kLargeBatch = 8;
// Large batches that are begun at once after one whose beginning was answered within the call.
const uint32_t kNotEarly = 255;

// IORING_OP_URING_CMD and BLOCK_URING_CMD_DISCARD by number, for older headers. In the entry the command's number
// takes the place of the low half of `off`, its second argument that of the last 16 bytes' first half.
const uint8_t kOpUringCmd = 46;
const uint32_t kCmdDiscard = 0x1200;
const size_t kAddr3At = 48;

uint64_t UserData(uint32_t queue, uint32_t slot) { return static_cast<uint64_t>(queue) << 32 | slot; }

// Copies a scatter list, merging entries that are adjacent in memory.
void TakeIov(Queue* queue, Slot& slot, const double* words, int count) {
  slot.iov.clear();
  slot.iov_at = 0;
  slot.in_memory = true;
  for (int i = 0; i < count; i++, words += kIovWords) {
    char* base = queue->regions[static_cast<size_t>(words[0])] + static_cast<size_t>(words[1]);
    size_t bytes = static_cast<size_t>(words[2]);
    if (words[0] != 0) slot.in_memory = false;
    if (!slot.iov.empty()) {
      iovec& last = slot.iov.back();
      if (static_cast<char*>(last.iov_base) + last.iov_len == base) {
        last.iov_len += bytes;
        continue;
      }
    }
    slot.iov.push_back({base, bytes});
  }
}

void Advance(Slot& slot, size_t bytes) {
  slot.offset += bytes;
  slot.left -= bytes;
  while (bytes > 0) {
    iovec& first = slot.iov[slot.iov_at];
    size_t part = std::min(bytes, first.iov_len);
    first.iov_base = static_cast<char*>(first.iov_base) + part;
    first.iov_len -= part;
    bytes -= part;
    if (first.iov_len == 0) slot.iov_at++;
  }
}

// What is past the end of a file reads as zeroes.
void ZeroRest(Slot& slot) {
  for (size_t i = slot.iov_at; i < slot.iov.size(); i++) memset(slot.iov[i].iov_base, 0, slot.iov[i].iov_len);
  slot.left = 0;
}

bool IsTransfer(const Slot& slot) { return slot.op <= kWriteFua; }

}  // namespace

int Engine::Open() {
  int result = -ENOMEM;
  // The rings count as locked memory (RLIMIT_MEMLOCK) of users without CAP_IPC_LOCK: small ones are better than none.
  for (unsigned entries = kEntries; result == -ENOMEM && entries >= kFewEntries; entries /= 4) {
    result = ring_.Open(entries, entries * kCompletionsPerEntry);
  }
  if (result < 0) return result;
  std::vector<int> none(kFixedFiles, -1);
  // A table of files saves a reference count per operation; a low RLIMIT_NOFILE may forbid it.
  if (ring_.Register(IORING_REGISTER_FILES, none.data(), kFixedFiles) == 0) fixed_ = none;
  ResourceTable table = {};
  table.count = kFixedMemories;
  table.flags = IORING_RSRC_REGISTER_SPARSE;
  if (ring_.Register(kRegisterBuffers2, &table, sizeof(table)) == 0) fixed_memory_.resize(kFixedMemories);
  return 0;
}

// Queues of one thread often have the same memory: it is registered once. -1 when there is no room for it, or
// RLIMIT_MEMLOCK forbids.
int Engine::FixMemory(char* base, size_t bytes) {
  if (bytes == 0 || bytes > kFixedMemoryMax) return -1;
  size_t free = fixed_memory_.size();
  for (size_t i = 0; i < fixed_memory_.size(); i++) {
    FixedMemory& known = fixed_memory_[i];
    if (known.users > 0 && known.base == base) {
      known.users++;
      return static_cast<int>(i);
    }
    if (known.users == 0 && free == fixed_memory_.size()) free = i;
  }
  if (free == fixed_memory_.size() || SetMemory(free, base, bytes) < 0) return -1;
  fixed_memory_[free] = {base, 1};
  return static_cast<int>(free);
}

void Engine::ReleaseMemory(int index) {
  if (index < 0 || --fixed_memory_[static_cast<size_t>(index)].users > 0) return;
  SetMemory(static_cast<size_t>(index), nullptr, 0);
}

int Engine::SetMemory(size_t index, char* base, size_t bytes) {
  iovec memory = {base, bytes};
  uint64_t tag = 0;
  ResourceUpdate update = {};
  update.offset = static_cast<uint32_t>(index);
  update.data = reinterpret_cast<uintptr_t>(&memory);
  update.tags = reinterpret_cast<uintptr_t>(&tag);
  update.count = 1;
  return ring_.Register(kRegisterBuffersUpdate, &update, sizeof(update));
}

int Engine::FixFile(int fd) {
  auto free = std::find(fixed_.begin(), fixed_.end(), -1);
  if (free == fixed_.end()) return -1;
  int index = static_cast<int>(free - fixed_.begin());
  io_uring_files_update update = {};
  update.offset = static_cast<uint32_t>(index);
  update.fds = reinterpret_cast<uintptr_t>(&fd);
  // The call returns how many it has changed.
  if (ring_.Register(IORING_REGISTER_FILES_UPDATE, &update, 1) < 0) return -1;
  *free = fd;
  return index;
}

Queue* Engine::AddQueue(uint32_t depth, const QueueFiles& files) {
  auto free = std::find(queues_.begin(), queues_.end(), nullptr);
  if (free == queues_.end()) free = queues_.insert(free, nullptr);
  *free = std::make_unique<Queue>();
  Queue* queue = free->get();
  queue->id = static_cast<uint32_t>(free - queues_.begin());
  queue->files = files;
  queue->files.main_fixed = FixFile(files.main);
  queue->slots.resize(depth);
  for (uint32_t i = 0; i < depth; i++) queue->slots[i].next_free = i + 1 < depth ? i + 1 : kNone;
  return queue;
}

void Engine::RemoveQueue(Queue* queue) {
  ReleaseMemory(queue->memory_fixed);
  int index = queue->files.main_fixed;
  if (index >= 0) {
    int none = -1;
    io_uring_files_update update = {};
    update.offset = static_cast<uint32_t>(index);
    update.fds = reinterpret_cast<uintptr_t>(&none);
    ring_.Register(IORING_REGISTER_FILES_UPDATE, &update, 1);
    fixed_[static_cast<size_t>(index)] = -1;
  }
  queues_[queue->id].reset();
}

void Engine::Start(Queue* queue, uint32_t count) {
  // A device with nothing to do gets the first operations while the rest of a large batch is being prepared.
  bool direct = queue->files.main != queue->files.buffered;
  bool early = direct && queue->in_flight == 0 && count >= kLargeBatch;
  // Whether that helps is asked again only now and then: the asking costs a call.
  if (early && queue->not_early > 0) {
    queue->not_early--;
    early = false;
  }
  // Registering pins the memory, so it waits until the queue is used.
  if (direct && !queue->started) queue->memory_fixed = FixMemory(queue->regions[0], queue->memory_bytes);
  queue->started = true;
  ring_.SetQuiet(true);
  for (uint32_t i = 0; i < count; i++) {
    StartOne(queue, queue->staged.operations + i * kStagedWords);
    bool power_of_two = (i & (i + 1)) == 0;
    if (!early || !power_of_two) continue;
    ring_.Submit();
    // One that answers within the call (a RAM disk) gains nothing by it.
    early = ring_.Peek() == nullptr;
    if (!early) queue->not_early = kNotEarly;
  }
  ring_.Submit();
  ring_.SetQuiet(false);
}

io_uring_sqe* Engine::NextEntry() {
  io_uring_sqe* entry = ring_.Next();
  while (!entry) {
    // A kernel whose completion queue has overflowed takes nothing more.
    if (ring_.Submit() < 0) Stash();
    entry = ring_.Next();
  }
  on_ring_++;
  return entry;
}

// Takes completions off the ring without handling them.
void Engine::Stash() {
  while (const io_uring_cqe* cqe = ring_.Peek()) {
    finished_.push_back({static_cast<uint32_t>(cqe->user_data >> 32), static_cast<uint32_t>(cqe->user_data), cqe->res});
    ring_.Seen();
    on_ring_--;
  }
}

void Engine::StartOne(Queue* queue, const double* words) {
  uint32_t index = queue->free_slot;
  Slot& slot = queue->slots[index];
  queue->free_slot = slot.next_free;
  in_flight_++;
  queue->in_flight++;
  slot.op = static_cast<int32_t>(words[0]);
  slot.tag = static_cast<int32_t>(words[1]);
  slot.offset = static_cast<uint64_t>(words[2]);
  slot.length = static_cast<uint32_t>(words[3]);
  slot.left = slot.length;
  slot.buffered = false;
  slot.punch = false;
  // A negative operation was refused by the checks in JavaScript: that is its result.
  slot.result = slot.op < 0 ? slot.op : 0;
  if (slot.op >= 0) TakeIov(queue, slot, queue->staged.iov + static_cast<size_t>(words[4]), static_cast<int>(words[5]));
  Issue(queue, index);
}

void Engine::Issue(Queue* queue, uint32_t index) {
  Slot& slot = queue->slots[index];
  const QueueFiles& files = queue->files;
  bool on_ring = !files.block_device || (slot.op == kDiscard && device_discard_);
  if (slot.op >= kDiscard && !(on_ring && slot.op != kSecureDiscard)) {
    run_range_(queue->id, index, slot.op, files.buffered, slot.offset, slot.left);
    return;
  }
  io_uring_sqe* entry = NextEntry();
  entry->user_data = UserData(queue->id, index);
  if (slot.op < 0) {
    entry->opcode = IORING_OP_NOP;
    return;
  }
  if (slot.buffered) {
    entry->fd = files.buffered;
  } else if (files.main_fixed >= 0) {
    entry->fd = files.main_fixed;
    entry->flags = IOSQE_FIXED_FILE;
  } else {
    entry->fd = files.main;
  }
  if (IsTransfer(slot)) {
    IssueTransfer(entry, queue, slot);
  } else if (slot.op == kFlush) {
    entry->opcode = IORING_OP_FSYNC;
    entry->fsync_flags = IORING_FSYNC_DATASYNC;
  } else {
    IssueRange(entry, queue, slot);
  }
}

void Engine::IssueTransfer(io_uring_sqe* entry, const Queue* queue, Slot& slot) {
  bool read = slot.op == kRead;
  const iovec* iov = &slot.iov[slot.iov_at];
  uint32_t count = std::min(static_cast<uint32_t>(slot.iov.size()) - slot.iov_at, kIovMax);
  entry->off = slot.offset;
  if (count == 1) {
    entry->opcode = read ? IORING_OP_READ : IORING_OP_WRITE;
    entry->addr = reinterpret_cast<uintptr_t>(iov->iov_base);
    entry->len = static_cast<uint32_t>(iov->iov_len);
    if (slot.in_memory && queue->memory_fixed >= 0) {
      entry->opcode = read ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
      entry->buf_index = static_cast<uint16_t>(queue->memory_fixed);
    }
  } else {
    entry->opcode = read ? IORING_OP_READV : IORING_OP_WRITEV;
    entry->addr = reinterpret_cast<uintptr_t>(iov);
    entry->len = count;
  }
  if (slot.op == kWriteFua) entry->rw_flags = RWF_DSYNC;
}

void Engine::IssueRange(io_uring_sqe* entry, Queue* queue, Slot& slot) {
  if (queue->files.block_device) {
    entry->opcode = kOpUringCmd;
    entry->off = kCmdDiscard;
    entry->addr = slot.offset;
    memcpy(reinterpret_cast<char*>(entry) + kAddr3At, &slot.left, sizeof(slot.left));
    return;
  }
  entry->opcode = IORING_OP_FALLOCATE;
  entry->off = slot.offset;
  entry->addr = slot.left;
  entry->len = static_cast<uint32_t>(FallocateMode(slot.punch ? kDiscard : slot.op));
}

uint32_t Engine::Reap(int32_t* ready, uint32_t room) {
  ready_count_ = 0;
  while (!finished_.empty()) {
    const Finished done = finished_.back();
    Queue* queue = queues_[done.queue].get();
    if (!Room(queue, ready, room)) break;
    finished_.pop_back();
    if (Handle(queue, done.slot, done.result)) Finish(queue, done.slot);
  }
  while (const io_uring_cqe* cqe = ring_.Peek()) {
    Queue* queue = queues_[cqe->user_data >> 32].get();
    if (!Room(queue, ready, room)) break;
    uint32_t slot = static_cast<uint32_t>(cqe->user_data);
    int result = cqe->res;
    ring_.Seen();
    on_ring_--;
    if (Handle(queue, slot, result)) Finish(queue, slot);
  }
  if (ring_.pending() > 0) ring_.Submit();
  for (uint32_t i = 0; i < ready_count_; i++) {
    Queue* queue = queues_[static_cast<size_t>(ready[2 * i])].get();
    ready[2 * i + 1] = static_cast<int32_t>(queue->completed);
    queue->completed = 0;
    queue->ready = false;
  }
  return ready_count_;
}

// Makes sure that the queue is among the ready ones, if there is room for it.
bool Engine::Room(Queue* queue, int32_t* ready, uint32_t room) {
  if (queue->ready) return true;
  if (ready_count_ == room) return false;
  queue->ready = true;
  ready[2 * ready_count_++] = static_cast<int32_t>(queue->id);
  return true;
}

// True when the operation is over.
bool Engine::Handle(Queue* queue, uint32_t index, int result) {
  Slot& slot = queue->slots[index];
  if (slot.op < 0) return true;
  bool over;
  if (result < 0) {
    over = !Retry(queue, slot, -result);
    if (over) slot.result = result == -ECANCELED ? -EIO : result;
  } else if (IsTransfer(slot)) {
    over = Transferred(queue, slot, result);
  } else {
    over = true;
  }
  if (!over) Issue(queue, index);
  return over;
}

bool Engine::Transferred(Queue* queue, Slot& slot, int bytes) {
  bool read = slot.op == kRead;
  Advance(slot, static_cast<size_t>(bytes));
  // O_DIRECT ends within a sector only at the end of the file.
  bool end = bytes == 0 || (!slot.buffered && queue->files.main != queue->files.buffered && bytes % kSector != 0);
  if (slot.left > 0 && end && read) ZeroRest(slot);
  if (slot.left > 0 && bytes == 0) {
    slot.result = -EIO;
    return true;
  }
  slot.result = static_cast<int32_t>(slot.length);
  return slot.left == 0;
}

// Whether to issue the operation again, in another way where that helps.
bool Engine::Retry(Queue* queue, Slot& slot, int error) {
  if (error == EINTR || error == EAGAIN) return true;
  bool has_buffered = queue->files.main != queue->files.buffered;
  if (IsTransfer(slot) && error == EINVAL && has_buffered && !slot.buffered) return slot.buffered = true;
  if (slot.op == kWriteZeroes && error == EOPNOTSUPP && !queue->files.block_device && !slot.punch) {
    return slot.punch = true;
  }
  if (slot.op == kDiscard && queue->files.block_device && device_discard_ && (error == EINVAL || error == EOPNOTSUPP)) {
    device_discard_ = false;
    return true;
  }
  return false;
}

void Engine::Finish(Queue* queue, uint32_t index) {
  Slot& slot = queue->slots[index];
  queue->tags[queue->completed] = slot.tag;
  queue->results[queue->completed++] = slot.result;
  slot.next_free = queue->free_slot;
  queue->free_slot = index;
  in_flight_--;
  queue->in_flight--;
}

void Engine::RangeDone(uint32_t queue, uint32_t slot, int result) { finished_.push_back({queue, slot, result}); }

void Engine::Drain(int seconds) {
  for (int turn = 0; on_ring_ > 0 && turn < seconds * 10; turn++) {
    if (ring_.pending() > 0) ring_.Submit();
    Stash();
    if (on_ring_ == 0) break;
    pollfd wait = {ring_.event_fd(), POLLIN, 0};
    poll(&wait, 1, 100);
    ring_.ClearEvent();
  }
}

}  // namespace blockdev
