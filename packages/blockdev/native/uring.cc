#include "uring.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// Newer than the oldest kernel headers that this is built with.
#ifndef IORING_SETUP_SUBMIT_ALL
#define IORING_SETUP_SUBMIT_ALL (1U << 7)
#endif
#ifndef IORING_SETUP_COOP_TASKRUN
#define IORING_SETUP_COOP_TASKRUN (1U << 8)
#define IORING_SETUP_TASKRUN_FLAG (1U << 9)
#endif
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif
#ifndef IORING_CQ_EVENTFD_DISABLED
#define IORING_CQ_EVENTFD_DISABLED (1U << 0)
#endif
#ifndef IORING_SQ_CQ_OVERFLOW
#define IORING_SQ_CQ_OVERFLOW (1U << 1)
#endif
#ifndef IORING_SQ_TASKRUN
#define IORING_SQ_TASKRUN (1U << 2)
#endif

namespace blockdev {

namespace {

int Setup(unsigned entries, io_uring_params* params) {
  int fd = static_cast<int>(syscall(__NR_io_uring_setup, entries, params));
  return fd < 0 ? -errno : fd;
}

// The best mode first: completions handled when we ask (6.1), on our next system call (5.19), or at any time.
const unsigned kModes[] = {
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    0,
};

// What the engine issues without trying: READ and WRITE came with 5.6, the last of them.
const unsigned kOperations[] = {IORING_OP_NOP,  IORING_OP_READV, IORING_OP_WRITEV,   IORING_OP_FSYNC,
                                IORING_OP_READ, IORING_OP_WRITE, IORING_OP_FALLOCATE};

// IORING_REGISTER_IOWQ_MAX_WORKERS, for older headers.
const unsigned kRegisterWorkers = 19;

// IORING_ENTER_EXT_ARG (5.11), its argument, and what says that it is there and that entries may be silent (5.17).
const unsigned kEnterExtended = 1u << 3;
const unsigned kSleepFeatures = 1u << 8 | 1u << 11;
struct ExtendedArgument {
  uint64_t signals;
  uint32_t signals_bytes;
  uint32_t unused;
  uint64_t timespec;
};
const uint32_t kSignalSetBytes = 8;

const unsigned kFeatures = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE;

}  // namespace

int Uring::Open(unsigned entries, unsigned completions) {
  int result = -EINVAL;
  for (unsigned mode : kModes) {
    params_ = {};
    params_.flags = mode | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    params_.cq_entries = completions;
    result = Setup(entries, &params_);
    if (result != -EINVAL) break;
  }
  if (result < 0) return result;
  fd_ = result;
  if ((params_.features & kFeatures) != kFeatures) result = -EOPNOTSUPP;
  else result = CheckOperations();
  if (result == 0) result = Map();
  if (result == 0) result = MakeEvent();
  if (result < 0) Close();
  return result;
}

int Uring::CheckOperations() {
  const unsigned count = 64;
  size_t bytes = sizeof(io_uring_probe) + count * sizeof(io_uring_probe_op);
  auto* probe = static_cast<io_uring_probe*>(calloc(1, bytes));
  if (!probe) return -ENOMEM;
  int result = Register(IORING_REGISTER_PROBE, probe, count);
  for (unsigned op : kOperations) {
    if (result == 0 && (op > probe->last_op || !(probe->ops[op].flags & IO_URING_OP_SUPPORTED))) result = -EOPNOTSUPP;
  }
  free(probe);
  return result;
}

int Uring::Map() {
  size_t sq_bytes = params_.sq_off.array + params_.sq_entries * sizeof(unsigned);
  size_t cq_bytes = params_.cq_off.cqes + params_.cq_entries * sizeof(io_uring_cqe);
  rings_bytes_ = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
  sqes_bytes_ = params_.sq_entries * sizeof(io_uring_sqe);
  const int protection = PROT_READ | PROT_WRITE;
  const int flags = MAP_SHARED | MAP_POPULATE;
  void* rings = mmap(nullptr, rings_bytes_, protection, flags, fd_, IORING_OFF_SQ_RING);
  if (rings == MAP_FAILED) return -errno;
  rings_ = rings;
  void* sqes = mmap(nullptr, sqes_bytes_, protection, flags, fd_, IORING_OFF_SQES);
  if (sqes == MAP_FAILED) return -errno;
  sqes_ = static_cast<io_uring_sqe*>(sqes);

  auto* base = static_cast<char*>(rings_);
  auto word = [base](unsigned offset) { return reinterpret_cast<unsigned*>(base + offset); };
  sq_head_ = word(params_.sq_off.head);
  sq_tail_ = word(params_.sq_off.tail);
  sq_flags_ = word(params_.sq_off.flags);
  sq_mask_ = *word(params_.sq_off.ring_mask);
  sq_entries_ = params_.sq_entries;
  cq_head_ = word(params_.cq_off.head);
  cq_tail_ = word(params_.cq_off.tail);
  // Without deferred work a completion may be announced at any time, also while nobody wants to know.
  if (params_.cq_off.flags && (params_.flags & IORING_SETUP_DEFER_TASKRUN)) cq_flags_ = word(params_.cq_off.flags);
  cq_mask_ = *word(params_.cq_off.ring_mask);
  cqes_ = reinterpret_cast<io_uring_cqe*>(base + params_.cq_off.cqes);
  // Entries are used in order, so the indirection array never changes.
  unsigned* array = word(params_.sq_off.array);
  for (unsigned i = 0; i < sq_entries_; i++) array[i] = i;
  return 0;
}

int Uring::MakeEvent() {
  event_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (event_fd_ < 0) return -errno;
  return Register(IORING_REGISTER_EVENTFD, &event_fd_, 1);
}

void Uring::Close() {
  if (sqes_) munmap(sqes_, sqes_bytes_);
  if (rings_) munmap(rings_, rings_bytes_);
  if (event_fd_ >= 0) close(event_fd_);
  if (fd_ >= 0) close(fd_);
  sqes_ = nullptr;
  rings_ = nullptr;
  fd_ = event_fd_ = -1;
}

io_uring_sqe* Uring::Next() {
  if (tail_ - __atomic_load_n(sq_head_, __ATOMIC_ACQUIRE) >= sq_entries_) return nullptr;
  io_uring_sqe* entry = &sqes_[tail_ & sq_mask_];
  memset(entry, 0, sizeof(*entry));
  tail_++;
  return entry;
}

int Uring::Submit() {
  __atomic_store_n(sq_tail_, tail_, __ATOMIC_RELEASE);
  long taken = syscall(__NR_io_uring_enter, fd_, tail_ - submitted_, 0, IORING_ENTER_GETEVENTS, nullptr, 0);
  if (taken < 0) return -errno;
  submitted_ += static_cast<unsigned>(taken);
  return 0;
}

int Uring::SubmitAndWait(int64_t microseconds) {
  __atomic_store_n(sq_tail_, tail_, __ATOMIC_RELEASE);
  // Of the kernel: two words of 64 bits.
  int64_t span[2] = {microseconds / 1000000, microseconds % 1000000 * 1000};
  ExtendedArgument argument = {};
  argument.signals_bytes = kSignalSetBytes;
  argument.timespec = microseconds < 0 ? 0 : reinterpret_cast<uintptr_t>(span);
  const unsigned flags = IORING_ENTER_GETEVENTS | kEnterExtended;
  long taken = syscall(__NR_io_uring_enter, fd_, tail_ - submitted_, 1, flags, &argument, sizeof(argument));
  if (taken < 0) return -errno;
  submitted_ += static_cast<unsigned>(taken);
  return 0;
}

bool Uring::CanSleep() const {
  return (params_.flags & IORING_SETUP_DEFER_TASKRUN) && (params_.features & kSleepFeatures) == kSleepFeatures;
}

void Uring::SetQuiet(bool quiet) {
  if (!cq_flags_) return;
  __atomic_store_n(cq_flags_, quiet ? IORING_CQ_EVENTFD_DISABLED : 0, __ATOMIC_SEQ_CST);
  // The kernel notes new work first and looks at this flag then; we do it the other way round.
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

bool Uring::Ready() const {
  return cq_flags_ && (*cq_head_ != __atomic_load_n(cq_tail_, __ATOMIC_ACQUIRE) || KernelHasMore());
}

bool Uring::KernelHasMore() const {
  return __atomic_load_n(sq_flags_, __ATOMIC_RELAXED) & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN);
}

const io_uring_cqe* Uring::Peek() {
  unsigned head = *cq_head_;
  if (head == __atomic_load_n(cq_tail_, __ATOMIC_ACQUIRE)) {
    if (!KernelHasMore()) return nullptr;
    Submit();
    if (head == __atomic_load_n(cq_tail_, __ATOMIC_ACQUIRE)) return nullptr;
  }
  return &cqes_[head & cq_mask_];
}

void Uring::Seen() { __atomic_store_n(cq_head_, *cq_head_ + 1, __ATOMIC_RELEASE); }

void Uring::AllowWorkers(unsigned most) {
  unsigned counts[2] = {most, 0};  // of files and block devices; of all else, which stays as it is
  Register(kRegisterWorkers, counts, 2);
}

int Uring::Register(unsigned what, const void* argument, unsigned count) {
  long result = syscall(__NR_io_uring_register, fd_, what, argument, count);
  return result < 0 ? -errno : 0;
}

}  // namespace blockdev
