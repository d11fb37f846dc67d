#ifndef BLOCKDEV_BOUNCE_H
#define BLOCKDEV_BOUNCE_H

#include <cstddef>
#include <cstdint>
#include <memory>

#include "queue.h"

namespace blockdev {

// Data of operations whose own memory O_DIRECT refuses goes through memory that it takes. It never goes through the
// page cache: the cached pages would be in the way of direct writes to the same blocks, whose flush then fails.

// Memory for the next part of the operation, with the part's data if it is a write. nullptr without memory.
std::shared_ptr<char> MakeBounce(const Slot& slot);

// Bytes of that part.
size_t BounceBytes(const Slot& slot);

// Hands the first `bytes` that were read to the operation's own memory.
void TakeBounce(const Slot& slot, size_t bytes);

// Reads or writes the part, blocking. Bytes or a negative errno.
int MoveBounce(int op, int fd, char* bounce, size_t bytes, uint64_t offset);

}  // namespace blockdev

#endif
