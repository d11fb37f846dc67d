#include "slots.h"

#include <linux/fs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "bounce.h"
#include "ranges.h"

#ifndef RWF_DSYNC
#define RWF_DSYNC 0x2
#endif

namespace blockdev {

namespace {

const uint32_t kIovMax = 1024;  // UIO_MAXIOV
const uint32_t kNone = UINT32_MAX;
const uint64_t kSector = 512;

// IORING_OP_URING_CMD and BLOCK_URING_CMD_DISCARD by number, for older headers. In the entry the command's number
// takes the place of the low half of `off`, its second argument that of the last 16 bytes' first half.
const uint8_t kOpUringCmd = 46;
const uint32_t kCmdDiscard = 0x1200;
const size_t kAddr3At = 48;

bool IsTransfer(const Slot& slot) { return slot.op <= kWriteFua; }

// Copies a scatter list, merging entries that are adjacent in memory.
void TakeIov(const Queue& queue, Slot& slot, const double* words, int count) {
  slot.iov.clear();
  slot.iov_at = 0;
  slot.in_memory = true;
  for (int i = 0; i < count; i++, words += kIovWords) {
    char* base = queue.regions[static_cast<size_t>(words[0])] + static_cast<size_t>(words[1]);
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

void FillTransfer(io_uring_sqe* entry, const Queue& queue, const Slot& slot) {
  bool read = slot.op == kRead;
  const iovec* iov = &slot.iov[slot.iov_at];
  uint32_t count = std::min(static_cast<uint32_t>(slot.iov.size()) - slot.iov_at, kIovMax);
  entry->off = slot.offset;
  if (count == 1) {
    entry->opcode = read ? IORING_OP_READ : IORING_OP_WRITE;
    entry->addr = reinterpret_cast<uintptr_t>(iov->iov_base);
    entry->len = static_cast<uint32_t>(iov->iov_len);
    if (slot.in_memory && queue.memory_fixed >= 0) {
      entry->opcode = read ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
      entry->buf_index = static_cast<uint16_t>(queue.memory_fixed);
    }
  } else {
    entry->opcode = read ? IORING_OP_READV : IORING_OP_WRITEV;
    entry->addr = reinterpret_cast<uintptr_t>(iov);
    entry->len = count;
  }
  if (slot.op == kWriteFua) entry->rw_flags = RWF_DSYNC;
}

void FillRange(io_uring_sqe* entry, const Queue& queue, const Slot& slot) {
  if (queue.files.block_device) {
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

bool TakeBytes(const Queue& queue, Slot& slot, int bytes) {
  if (slot.bounce && slot.op == kRead) TakeBounce(slot, static_cast<size_t>(bytes));
  Advance(slot, static_cast<size_t>(bytes));
  // O_DIRECT ends within a sector only at the end of the file.
  bool end = bytes == 0 || (queue.files.direct() && bytes % kSector != 0);
  if (slot.left > 0 && end && slot.op == kRead) ZeroRest(slot);
  if (slot.left > 0 && bytes == 0) {
    slot.result = -EIO;
    return true;
  }
  slot.result = static_cast<int32_t>(slot.length);
  return slot.left == 0;
}

// Whether to issue the operation again, in another way where that helps.
bool Retry(const Queue& queue, Slot& slot, int error, KernelLimits& limits) {
  const QueueFiles& files = queue.files;
  if (error == EINTR || error == EAGAIN) return true;
  if (IsTransfer(slot) && error == EINVAL && files.direct() && !slot.bounced) return slot.bounced = true;
  if (slot.op == kWriteZeroes && error == EOPNOTSUPP && !files.block_device && !slot.punch) return slot.punch = true;
  bool refused = error == EINVAL || error == EOPNOTSUPP;
  if (slot.op == kDiscard && files.block_device && limits.device_discard && refused) {
    limits.device_discard = false;
    return true;
  }
  // Pages are written to: a thread of the pool tries again.
  if (slot.op == kDiscard && files.block_device && error == EBUSY && !slot.on_thread) return slot.on_thread = true;
  return false;
}

}  // namespace

void InitSlots(Queue* queue, uint32_t depth) {
  queue->slots.resize(depth);
  for (uint32_t i = 0; i < depth; i++) queue->slots[i].next_free = i + 1 < depth ? i + 1 : kNone;
}

void TakeStaged(const Queue& queue, const double* words, Slot& slot) {
  slot.op = static_cast<int32_t>(words[0]);
  slot.tag = static_cast<int32_t>(words[1]);
  slot.offset = static_cast<uint64_t>(words[2]);
  slot.length = static_cast<uint64_t>(words[3]);
  slot.left = slot.length;
  slot.bounced = false;
  slot.punch = false;
  slot.on_thread = false;
  // A negative operation was refused by the checks in JavaScript: that is its result. Or there is nothing to do.
  slot.result = slot.op < 0 && slot.op != kNothing ? slot.op : 0;
  if (slot.op >= 0) TakeIov(queue, slot, queue.staged.iov + static_cast<size_t>(words[4]), static_cast<int>(words[5]));
}

bool NeedsThread(const Queue& queue, const Slot& slot, const KernelLimits& limits) {
  if (slot.bounced || slot.on_thread || slot.op == kSecureDiscard) return true;
  if (slot.op < kDiscard) return false;
  // Parts of blocks are written, which is more than one call.
  if (slot.op == kWriteZeroes && queue.files.direct()) return true;
  return queue.files.block_device && !(slot.op == kDiscard && limits.device_discard);
}

void FillEntry(io_uring_sqe* entry, const Queue& queue, const Slot& slot) {
  const QueueFiles& files = queue.files;
  if (slot.op < 0) {
    entry->opcode = IORING_OP_NOP;
    return;
  }
  if (files.main_fixed >= 0) {
    entry->fd = files.main_fixed;
    entry->flags = IOSQE_FIXED_FILE;
  } else {
    entry->fd = files.main;
  }
  if (IsTransfer(slot)) {
    FillTransfer(entry, queue, slot);
  } else if (slot.op == kFlush) {
    entry->opcode = IORING_OP_FSYNC;
    entry->fsync_flags = IORING_FSYNC_DATASYNC;
  } else {
    FillRange(entry, queue, slot);
  }
}

bool TakeResult(const Queue& queue, Slot& slot, int result, KernelLimits& limits) {
  if (slot.op < 0) return true;
  if (result >= 0) return !IsTransfer(slot) || TakeBytes(queue, slot, result);
  if (Retry(queue, slot, -result, limits)) return false;
  slot.result = result == -ECANCELED ? -EIO : result;
  return true;
}

}  // namespace blockdev
