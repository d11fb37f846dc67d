#ifndef BLOCKDEV_RING_SLEEP_H
#define BLOCKDEV_RING_SLEEP_H

#include <linux/io_uring.h>

#include <cstdint>

namespace blockdev {

// What a sleep is for. The memory must stay until sleeps have ended.
struct SleepCall {
  int events;  // the file of event channels: a read of it tells which have fired
  const void* unmask;
  uint32_t unmask_bytes;
  void* ports;
  uint32_t ports_bytes;
  int loop;  // the event loop's own descriptor
  const int32_t* eventfds;
  uint32_t eventfd_count;
  int64_t microseconds;  // at most; negative for no limit
  bool limited;          // the limit is the caller's, not the event loop's
};

// The entries of a ring by which a thread sleeps in it: ports are unmasked, and the next read of the event channels, the
// event loop and other engines are waited for, in the call that waits for completions.
//
// What must hold: between sleeps the read stays with the kernel, which may end it at any time the ring is entered; what
// it has read is kept until it is taken. After the last of a series of sleeps all is cancelled, because the event loop
// reads the same file.
class RingSleep {
 public:
  static constexpr uint32_t kMostEventfds = 14;

  static bool Owns(const io_uring_cqe& completion) { return completion.user_data >> 32 == kQueue; }

  // What is still missing in the ring. `next` gives zeroed entries.
  template <typename Next>
  void Arm(const SleepCall& call, Next next);
  template <typename Next>
  void Cancel(Next next);
  // Whether there is something to be taken, so that nothing may be waited for.
  bool found() const { return read_ != 0 || unmask_failed_ != 0 || fired_ != 0; }
  void Complete(const io_uring_cqe& completion);
  bool armed() const { return armed_ != 0; }
  // False once the event loop has something to do.
  bool WaitsForLoop() const { return armed_ & (1u << kLoop); }

  // Bytes that were read, a negative errno, or 0. Once.
  int TakeRead();
  // Whether an eventfd fired; they are reset.
  bool TakeEventfds(const SleepCall& call);

 private:
  // No queue has this number.
  static constexpr uint64_t kQueue = UINT32_MAX;
  // IOSQE_CQE_SKIP_SUCCESS, for older headers.
  static constexpr uint8_t kSkipSuccess = 1u << 6;
  // What an entry is for; that of an eventfd is kFirstEventfd and its place.
  enum : uint32_t { kUnmask, kRead, kLoop, kCancel, kFirstEventfd };

  static uint64_t UserData(uint32_t what) { return kQueue << 32 | what; }
  static void FillPoll(io_uring_sqe* entry, int fd);

  uint32_t armed_ = 0;  // bits, by what
  uint32_t fired_ = 0;
  int read_ = 0;
  int unmask_failed_ = 0;
};

template <typename Next>
void RingSleep::Arm(const SleepCall& call, Next next) {
  auto add = [&](uint32_t what) -> io_uring_sqe* {
    if (armed_ & (1u << what)) return nullptr;
    armed_ |= 1u << what;
    io_uring_sqe* entry = next();
    entry->user_data = UserData(what);
    return entry;
  };
  if (call.unmask_bytes > 0) {
    io_uring_sqe* entry = next();
    entry->user_data = UserData(kUnmask);
    entry->opcode = IORING_OP_WRITE;
    entry->flags = kSkipSuccess;
    entry->fd = call.events;
    entry->off = UINT64_MAX;
    entry->addr = reinterpret_cast<uintptr_t>(call.unmask);
    entry->len = call.unmask_bytes;
  }
  // First the others, so that the read is the first to be woken, and the event loop finds nothing of its event.
  if (io_uring_sqe* entry = add(kLoop)) FillPoll(entry, call.loop);
  for (uint32_t i = 0; i < call.eventfd_count; i++) {
    if (io_uring_sqe* entry = add(kFirstEventfd + i)) FillPoll(entry, call.eventfds[i]);
  }
  // What was read last is not taken yet.
  if (read_ != 0) return;
  if (io_uring_sqe* entry = add(kRead)) {
    entry->opcode = IORING_OP_READ;
    entry->fd = call.events;
    entry->off = UINT64_MAX;
    entry->addr = reinterpret_cast<uintptr_t>(call.ports);
    entry->len = call.ports_bytes;
  }
}

template <typename Next>
void RingSleep::Cancel(Next next) {
  for (uint32_t what = 0; what < 32; what++) {
    if (!(armed_ & (1u << what))) continue;
    io_uring_sqe* entry = next();
    entry->user_data = UserData(kCancel);
    entry->opcode = IORING_OP_ASYNC_CANCEL;
    entry->flags = kSkipSuccess;
    entry->addr = UserData(what);
  }
}

}  // namespace blockdev

#endif
