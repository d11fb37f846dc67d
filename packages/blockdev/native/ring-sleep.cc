#include "ring-sleep.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <cerrno>

namespace blockdev {

void RingSleep::FillPoll(io_uring_sqe* entry, int fd) {
  entry->opcode = IORING_OP_POLL_ADD;
  entry->fd = fd;
  entry->poll_events = POLLIN;
}

void RingSleep::Complete(const io_uring_cqe& completion) {
  auto what = static_cast<uint32_t>(completion.user_data);
  // It was over already.
  if (what == kCancel) return;
  // One that succeeds says nothing.
  if (what == kUnmask) unmask_failed_ = completion.res;
  armed_ &= ~(1u << what);
  if (completion.res == -ECANCELED) return;
  if (what == kRead) read_ = completion.res == 0 ? -EIO : completion.res;
  if (what >= kFirstEventfd) fired_ |= 1u << what;
}

int RingSleep::TakeRead() {
  int result = read_ != 0 ? read_ : unmask_failed_;
  read_ = unmask_failed_ = 0;
  return result;
}

bool RingSleep::TakeEventfds(const SleepCall& call) {
  bool found = false;
  for (uint32_t i = 0; i < call.eventfd_count; i++) {
    eventfd_t value;
    if (fired_ & (1u << (kFirstEventfd + i))) found = eventfd_read(call.eventfds[i], &value) == 0 || found;
  }
  fired_ = 0;
  return found;
}

}  // namespace blockdev
