#ifndef BLOCKDEV_URING_H
#define BLOCKDEV_URING_H

#include <linux/io_uring.h>

#include <cstddef>
#include <cstdint>

namespace blockdev {

// One io_uring instance through the raw system calls (io_uring(7)). Used by the thread that made it only.
// Methods return 0 or a negative errno.
class Uring {
 public:
  Uring() = default;
  ~Uring() { Close(); }
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;

  // -ENOSYS, -EPERM (sysctl kernel.io_uring_disabled, seccomp), -EOPNOTSUPP when operations are missing.
  int Open(unsigned entries, unsigned completions);
  void Close();

  // Readable when there may be completions, until it is read.
  int event_fd() const { return event_fd_; }
  unsigned pending() const { return tail_ - submitted_; }

  // A zeroed entry, or nullptr when the submission queue is full: then Submit() first.
  io_uring_sqe* Next();
  // Hands pending entries to the kernel and lets it do deferred work, in one call.
  int Submit();
  // The same, and waits for a completion, at most so long; negative for no limit. A signal ends it too.
  int SubmitAndWait(int64_t microseconds);
  // Whether completions come only while the kernel is entered, and it has all that SubmitAndWait and RingSleep use (6.1).
  bool CanSleep() const;
  // While quiet, the event descriptor stays as it is. Who ends that must look whether anything is Ready().
  void SetQuiet(bool quiet);
  // Takes a ring that was never opened too.
  bool Ready() const;
  // The oldest completion, or nullptr. Enters the kernel only when it holds completions back.
  const io_uring_cqe* Peek();
  void Seen();

  // How many threads of the kernel may do at once, for this thread, what would block (5.15; older ones keep their own
  // number). They are made as they are needed.
  void AllowWorkers(unsigned most);

  int Register(unsigned what, const void* argument, unsigned count);

 private:
  int Map();
  int CheckOperations();
  int MakeEvent();
  bool KernelHasMore() const;

  int fd_ = -1;
  // The ring's own descriptor would not do: with deferred work, polling it misses completions.
  int event_fd_ = -1;
  io_uring_params params_ = {};
  void* rings_ = nullptr;
  size_t rings_bytes_ = 0;
  io_uring_sqe* sqes_ = nullptr;
  size_t sqes_bytes_ = 0;

  unsigned* sq_head_ = nullptr;
  unsigned* sq_tail_ = nullptr;
  unsigned* sq_flags_ = nullptr;
  unsigned sq_mask_ = 0;
  unsigned sq_entries_ = 0;
  unsigned* cq_head_ = nullptr;
  unsigned* cq_tail_ = nullptr;
  unsigned* cq_flags_ = nullptr;  // nullptr where events cannot be switched off
  unsigned cq_mask_ = 0;
  io_uring_cqe* cqes_ = nullptr;
  unsigned tail_ = 0;       // entries filled
  unsigned submitted_ = 0;  // entries that the kernel has taken
};

}  // namespace blockdev

#endif
