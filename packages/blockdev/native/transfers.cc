#include "transfers.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "ranges.h"

#ifndef RWF_DSYNC
#define RWF_DSYNC 0x2
#endif

namespace blockdev {

namespace {

const size_t kIovMax = 1024;  // UIO_MAXIOV

/** pwritev2(2), for which musl has a function since 1.2.5. On 64 bits, the first half of the offset is all of it. */
ssize_t WriteAndSync(int fd, const iovec* iov, int count, off_t at) {
  return syscall(SYS_pwritev2, fd, iov, static_cast<long>(count), static_cast<long>(at), 0L, static_cast<long>(RWF_DSYNC));
}

}  // namespace

int Perform(int op, int fd, const iovec* iov, size_t count, uint64_t offset) {
  auto at = static_cast<off_t>(offset);
  int pieces = static_cast<int>(std::min(count, kIovMax));
  ssize_t result = op == kFlush      ? fdatasync(fd)
                   : op == kRead     ? preadv(fd, iov, pieces, at)
                   : op == kWriteFua ? WriteAndSync(fd, iov, pieces, at)
                                     : pwritev(fd, iov, pieces, at);
  return result < 0 ? -errno : static_cast<int>(result);
}

}  // namespace blockdev
