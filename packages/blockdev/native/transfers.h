#ifndef BLOCKDEV_TRANSFERS_H
#define BLOCKDEV_TRANSFERS_H

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

namespace blockdev {

// A read, a write, a write with FUA, or a flush, blocking: bytes, perhaps not all, or a negative errno.
int Perform(int op, int fd, const iovec* iov, size_t count, uint64_t offset);

}  // namespace blockdev

#endif
