#include "bounce.h"

#include <sys/uio.h>

#include <algorithm>
#include <cstring>

#include "guarded-memory.h"
#include "ranges.h"
#include "transfers.h"

namespace blockdev {

namespace {

const size_t kMostBytes = 1 << 20;

// Copies between the beginning of what is left of a scatter list and `bounce`.
void Copy(const Slot& slot, char* bounce, size_t bytes, bool gather) {
  for (size_t i = slot.iov_at; bytes > 0; i++) {
    const iovec& piece = slot.iov[i];
    size_t part = std::min(bytes, piece.iov_len);
    if (gather) memcpy(bounce, piece.iov_base, part);
    else memcpy(piece.iov_base, bounce, part);
    bounce += part;
    bytes -= part;
  }
}

}  // namespace

size_t BounceBytes(const Slot& slot) { return static_cast<size_t>(std::min<uint64_t>(slot.left, kMostBytes)); }

std::shared_ptr<char> MakeBounce(const Slot& slot) {
  // Whole pages, which is what O_DIRECT wants at most (src/file/direct-io.ts).
  std::shared_ptr<GuardedMemory> memory = GuardedMemory::Allocate(BounceBytes(slot));
  if (!memory) return nullptr;
  if (slot.op != kRead) Copy(slot, memory->data(), BounceBytes(slot), true);
  return {memory, memory->data()};
}

void TakeBounce(const Slot& slot, size_t bytes) { Copy(slot, slot.bounce.get(), bytes, false); }

int MoveBounce(int op, int fd, char* bounce, size_t bytes, uint64_t offset) {
  iovec piece = {bounce, bytes};
  return Perform(op, fd, &piece, 1, offset);
}

}  // namespace blockdev
