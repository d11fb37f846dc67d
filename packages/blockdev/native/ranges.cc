#include "ranges.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace blockdev {

namespace {

// struct statx and STATX_DIOALIGN by their numbers, for headers older than 6.1.
const unsigned kStatxDioAlign = 0x2000;
const size_t kStatxBytes = 256;
const size_t kMaskAt = 0;
const size_t kMemoryAlignAt = 0x98;
const size_t kOffsetAlignAt = 0x9c;

int Fallocate(int fd, int mode, uint64_t offset, uint64_t length) {
  int result;
  do {
    result = fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(length));
  } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : 0;
}

int DeviceRange(unsigned long request, int fd, uint64_t offset, uint64_t length) {
  uint64_t range[2] = {offset, length};
  return ioctl(fd, request, range) < 0 ? -errno : 0;
}

}  // namespace

int FallocateMode(int op) {
  return (op == kWriteZeroes ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE) | FALLOC_FL_KEEP_SIZE;
}

int PerformRange(int op, int fd, bool block_device, uint64_t offset, uint64_t length) {
  if (block_device) {
    switch (op) {
      case kDiscard:
        return DeviceRange(BLKDISCARD, fd, offset, length);
      case kSecureDiscard:
        return DeviceRange(BLKSECDISCARD, fd, offset, length);
      default:
        return DeviceRange(BLKZEROOUT, fd, offset, length);
    }
  }
  if (op == kSecureDiscard) return -EOPNOTSUPP;
  int result = Fallocate(fd, FallocateMode(op), offset, length);
  // tmpfs and others know holes, which read as zeroes, but no ZERO_RANGE.
  if (op == kWriteZeroes && result == -EOPNOTSUPP) result = Fallocate(fd, FallocateMode(kDiscard), offset, length);
  return result;
}

int DropPageCache(int fd) { return -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); }

int DirectAlignment(int fd, double* memory, double* offset) {
  unsigned char buffer[kStatxBytes] = {};
  if (syscall(__NR_statx, fd, "", AT_EMPTY_PATH, kStatxDioAlign, buffer) < 0) return -errno;
  uint32_t mask, memory_align, offset_align;
  memcpy(&mask, buffer + kMaskAt, sizeof(mask));
  memcpy(&memory_align, buffer + kMemoryAlignAt, sizeof(memory_align));
  memcpy(&offset_align, buffer + kOffsetAlignAt, sizeof(offset_align));
  if (!(mask & kStatxDioAlign)) return -EOPNOTSUPP;
  *memory = memory_align;
  *offset = offset_align;
  return 0;
}

}  // namespace blockdev
