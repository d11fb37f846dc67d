#include "engine.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "bounce.h"
#include "ranges.h"
#include "transfers.h"

namespace blockdev {

namespace {

const unsigned kEntries = 1024;
const unsigned kFewEntries = 16;
const unsigned kCompletionsPerEntry = 8;
const uint32_t kLargeBatch = 8;
// Threads of the kernel beyond those that all queues could take: about what it would have by itself.
const uint32_t kSpareWorkers = 16;
// To look again at what is being cancelled; the kernel ends it within the call.
const int64_t kCancelMicroseconds = 10000;
// Large batches that are begun at once after one whose beginning was answered within the call.
const uint32_t kNotEarly = 255;

uint64_t UserData(uint32_t queue, uint32_t slot) { return static_cast<uint64_t>(queue) << 32 | slot; }

}  // namespace

int Engine::Open(bool with_ring) {
  with_ring_ = with_ring;
  if (!with_ring) {
    own_event_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return own_event_fd_ < 0 ? -errno : 0;
  }
  int result = -ENOMEM;
  // The rings count as locked memory (RLIMIT_MEMLOCK) of users without CAP_IPC_LOCK: small ones are better than none.
  for (unsigned entries = kEntries; result == -ENOMEM && entries >= kFewEntries; entries /= 4) {
    result = ring_.Open(entries, entries * kCompletionsPerEntry);
  }
  if (result < 0) return result;
  registrations_.Open();
  return 0;
}

Engine::~Engine() {
  if (own_event_fd_ >= 0) close(own_event_fd_);
}

void Engine::ClearEvent() {
  eventfd_t count;
  eventfd_read(event_fd(), &count);
}

// The kernel does what would block by threads of its own, four for each processor unless told otherwise, for all queues of
// a thread: those of a disk whose storage hangs must leave some to the others.
void Engine::LimitWorkers() {
  if (!with_ring_ || depths_ <= workers_) return;
  // Not at each queue.
  workers_ = std::max(2 * workers_, depths_ + kSpareWorkers);
  ring_.AllowWorkers(workers_);
}

Queue* Engine::AddQueue(uint32_t depth, const QueueFiles& files) {
  auto free = std::find(queues_.begin(), queues_.end(), nullptr);
  if (free == queues_.end()) free = queues_.insert(free, nullptr);
  *free = std::make_unique<Queue>();
  Queue* queue = free->get();
  queue->id = static_cast<uint32_t>(free - queues_.begin());
  queue->serial = ++serial_;
  queue->files = files;
  queue->files.main_fixed = registrations_.AddFile(files.main);
  InitSlots(queue, depth);
  depths_ += depth;
  LimitWorkers();
  return queue;
}

void Engine::RemoveQueue(Queue* queue) {
  depths_ -= static_cast<uint32_t>(queue->slots.size());
  registrations_.RemoveMemory(queue->memory_fixed);
  registrations_.RemoveFile(queue->files.main_fixed);
  queues_[queue->id].reset();
}

void Engine::Start(Queue* queue, uint32_t count) {
  if (!with_ring_) {
    queue->started = true;
    for (uint32_t i = 0; i < count; i++) StartOne(queue, queue->staged.operations + i * kStagedWords);
    return;
  }
  bool early = TakeEarly(queue, count);
  // Registering pins the memory, so it waits until the queue is used.
  if (queue->files.direct() && !queue->started) {
    queue->memory_fixed = registrations_.AddMemory(queue->regions[0].base, queue->regions[0].bytes);
  }
  queue->started = true;
  ring_.SetQuiet(true);
  for (uint32_t i = 0; i < count; i++) {
    StartOne(queue, queue->staged.operations + i * kStagedWords);
    bool power_of_two = (i & (i + 1)) == 0;
    if (!early || !power_of_two) continue;
    ring_.Submit();
    // One that answers within the call (a RAM disk) gains nothing by it.
    early = PeekOperation() == nullptr;
    if (!early) queue->not_early = kNotEarly;
  }
  ring_.Submit();
  // Who sleeps in the ring sees what completes.
  if (!sleeps_) ring_.SetQuiet(false);
}

// Whether a device with nothing to do gets the first operations while the rest of a large batch is being prepared.
// Whether that helps is asked again only now and then: the asking costs a call.
bool Engine::TakeEarly(Queue* queue, uint32_t count) {
  if (!queue->files.direct() || queue->in_flight > 0 || count < kLargeBatch) return false;
  if (queue->not_early == 0) return true;
  queue->not_early--;
  return false;
}

io_uring_sqe* Engine::NextEntry() {
  on_ring_++;
  return NextSilent();
}

// An entry that nobody counts.
io_uring_sqe* Engine::NextSilent() {
  io_uring_sqe* entry = ring_.Next();
  while (!entry) {
    // A kernel whose completion queue has overflowed takes nothing more.
    if (ring_.Submit() < 0) Stash();
    entry = ring_.Next();
  }
  return entry;
}

// The oldest completion of an operation, or nullptr.
const io_uring_cqe* Engine::PeekOperation() {
  const io_uring_cqe* completion = ring_.Peek();
  while (completion && RingSleep::Owns(*completion)) {
    sleep_.Complete(*completion);
    ring_.Seen();
    completion = ring_.Peek();
  }
  return completion;
}

// Takes completions off the ring without handling them.
void Engine::Stash() {
  while (const io_uring_cqe* cqe = PeekOperation()) {
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
  TakeStaged(*queue, words, slot);
  Issue(queue, index);
}

void Engine::Issue(Queue* queue, uint32_t index) {
  Slot& slot = queue->slots[index];
  if (!with_ring_ && slot.op < 0) {
    WorkDone(queue->id, index, 0);
    return;
  }
  if (!with_ring_ || NeedsThread(*queue, slot, limits_)) {
    IssueWork(*queue, index, slot);
    return;
  }
  io_uring_sqe* entry = NextEntry();
  entry->user_data = UserData(queue->id, index);
  FillEntry(entry, *queue, slot);
}

void Engine::IssueWork(const Queue& queue, uint32_t index, Slot& slot) {
  const int op = slot.op, fd = queue.files.main;
  const uint64_t offset = slot.offset, left = slot.left;
  if (!slot.bounced && slot.op <= kFlush) {
    // The slot keeps its list until it is over.
    const iovec* iov = slot.iov.data() + slot.iov_at;
    const size_t count = slot.iov.size() - slot.iov_at;
    run_work_(queue.id, index, [=] { return Perform(op, fd, iov, count, offset); });
    return;
  }
  if (!slot.bounced) {
    const bool block_device = queue.files.block_device;
    run_work_(queue.id, index, [=] { return PerformRange(op, fd, block_device, offset, left); });
    return;
  }
  slot.bounce = MakeBounce(slot);
  if (!slot.bounce) {
    WorkDone(queue.id, index, -ENOMEM);
    return;
  }
  const size_t bytes = BounceBytes(slot);
  run_work_(queue.id, index, [=, bounce = slot.bounce] { return MoveBounce(op, fd, bounce.get(), bytes, offset); });
}

uint32_t Engine::Reap(int32_t* ready, uint32_t room) {
  ready_count_ = 0;
  while (!finished_.empty()) {
    const Finished done = finished_.back();
    Queue* queue = queues_[done.queue].get();
    if (!Room(queue, ready, room)) break;
    finished_.pop_back();
    Handle(queue, done.slot, done.result);
  }
  while (const io_uring_cqe* cqe = with_ring_ ? PeekOperation() : nullptr) {
    Queue* queue = queues_[cqe->user_data >> 32].get();
    if (!Room(queue, ready, room)) break;
    uint32_t slot = static_cast<uint32_t>(cqe->user_data);
    int result = cqe->res;
    ring_.Seen();
    on_ring_--;
    Handle(queue, slot, result);
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

void Engine::Handle(Queue* queue, uint32_t index, int result) {
  if (TakeResult(*queue, queue->slots[index], result, limits_)) Finish(queue, index);
  else Issue(queue, index);
}

void Engine::Finish(Queue* queue, uint32_t index) {
  Slot& slot = queue->slots[index];
  queue->tags[queue->completed] = slot.tag;
  queue->results[queue->completed++] = slot.result;
  slot.bounce.reset();
  slot.next_free = queue->free_slot;
  queue->free_slot = index;
  in_flight_--;
  queue->in_flight--;
}

int Engine::Sleep(const SleepCall& call) {
  if (!sleeps_) ring_.SetQuiet(true);
  sleeps_ = true;
  sleep_.Arm(call, [this] { return NextSilent(); });
  bool found = !finished_.empty() || sleep_.found();
  int result = found ? ring_.Submit() : ring_.SubmitAndWait(call.microseconds);
  // All of them: one that belongs to sleeps may come after others.
  Stash();
  int bytes = sleep_.TakeRead();
  if (bytes != 0) return bytes;
  // Both are asked: an eventfd that is left would end the next sleep.
  if (sleep_.TakeEventfds(call) || !finished_.empty()) return 0;
  // The kernel does not say that the time is over when it has taken entries.
  bool loop = !sleep_.WaitsForLoop() || (result < 0 && result != -ETIME);
  return call.limited && !loop ? -ETIME : -EAGAIN;
}

int Engine::EndSleeps() {
  if (!sleeps_) return 0;
  sleep_.Cancel([this] { return NextSilent(); });
  while (sleep_.armed()) {
    if (ring_.SubmitAndWait(kCancelMicroseconds) == -EBADF) break;
    Stash();
  }
  sleeps_ = false;
  ring_.SetQuiet(false);
  return sleep_.TakeRead();
}

void Engine::WorkDone(uint32_t queue, uint32_t slot, int result) { finished_.push_back({queue, slot, result}); }

void Engine::Drain(int seconds) {
  EndSleeps();
  for (int turn = 0; on_ring_ > 0 && turn < seconds * 10; turn++) {
    if (ring_.pending() > 0) ring_.Submit();
    Stash();
    if (on_ring_ == 0) break;
    pollfd wait = {ring_.event_fd(), POLLIN, 0};
    poll(&wait, 1, 100);
    ClearEvent();
  }
}

}  // namespace blockdev
