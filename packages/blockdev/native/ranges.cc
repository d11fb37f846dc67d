#include "ranges.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace blockdev {

namespace {

// struct statx and STATX_DIOALIGN by their numbers, for headers older than 6.1.
const unsigned kStatxDioAlign = 0x2000;
// Dropping pages that are written to all the time: most succeed at the second try.
const int kBusyTries = 20;
// Ends of extents that one call finds: an answer to a client of NBD is of about that length.
const size_t kMostEnds = 1024;
// Zeroes in one call, and the alignment of their memory.
const size_t kPage = 4096;

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

// While somebody has a block device open with O_EXCL (our own lock, a file system, device mapper), the kernel drops only
// those pages of the range that are written out: with others there it says EBUSY, and has done nothing. So they are
// written out. Only their writing is begun here: waiting for it would take its errors away from the next flush, and the
// kernel waits for it before it drops a page. A page that is written to meanwhile is found dirty again.
int DeviceRange(unsigned long request, int fd, uint64_t offset, uint64_t length) {
  uint64_t range[2] = {offset, length};
  for (int tries = 1;; tries++) {
    if (ioctl(fd, request, range) == 0) return 0;
    if (errno == EINTR) continue;
    if (errno != EBUSY || tries == kBusyTries) return -errno;
    sync_file_range(fd, static_cast<off_t>(offset), static_cast<off_t>(length), SYNC_FILE_RANGE_WRITE);
  }
}

int ZeroBlocks(int fd, uint64_t offset, uint64_t length) {
  int result = Fallocate(fd, FallocateMode(kWriteZeroes), offset, length);
  // tmpfs and others know holes, which read as zeroes, but no ZERO_RANGE.
  return result == -EOPNOTSUPP ? Fallocate(fd, FallocateMode(kDiscard), offset, length) : result;
}

// Writes zeroes by the descriptor's own way, past the page cache or through it.
int WriteZeroes(int fd, uint64_t offset, uint64_t length) {
  void* zeroes;
  if (posix_memalign(&zeroes, kPage, kPage) != 0) return -ENOMEM;
  memset(zeroes, 0, kPage);
  int result = 0;
  while (length > 0 && result == 0) {
    ssize_t written = pwrite(fd, zeroes, std::min<uint64_t>(length, kPage), static_cast<off_t>(offset));
    if (written <= 0) {
      if (written < 0 && errno == EINTR) continue;
      result = written < 0 ? -errno : -EIO;
    } else {
      offset += static_cast<uint64_t>(written);
      length -= static_cast<uint64_t>(written);
    }
  }
  free(zeroes);
  return result;
}

// Of a file that is written past the page cache only whole blocks are left to the file system, which writes the zeroes
// of others into the cache.
int ZeroFile(int fd, uint64_t offset, uint64_t length) {
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return -errno;
  if (!(flags & O_DIRECT)) return ZeroBlocks(fd, offset, length);
  struct stat stats;
  if (fstat(fd, &stats) < 0) return -errno;
  auto block = static_cast<uint64_t>(stats.st_blksize);
  uint64_t end = offset + length;
  uint64_t first = std::min((offset + block - 1) / block * block, end);
  uint64_t last = std::max(end / block * block, first);
  int result = WriteZeroes(fd, offset, first - offset);
  if (result == 0 && first < last) result = ZeroBlocks(fd, first, last - first);
  return result == 0 ? WriteZeroes(fd, last, end - last) : result;
}

int DiscardDevice(int fd, uint64_t offset, uint64_t length) {
  int result = DeviceRange(BLKDISCARD, fd, offset, length);
  // A hint: what was there may stay.
  return result == -EBUSY ? 0 : result;
}

int ZeroDevice(int fd, uint64_t offset, uint64_t length) {
  int result = DeviceRange(BLKZEROOUT, fd, offset, length);
  return result == -EBUSY ? WriteZeroes(fd, offset, length) : result;
}

}  // namespace

int FallocateMode(int op) {
  return (op == kWriteZeroes ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE) | FALLOC_FL_KEEP_SIZE;
}

int PerformRange(int op, int fd, bool block_device, uint64_t offset, uint64_t length) {
  if (block_device) {
    switch (op) {
      case kDiscard:
        return DiscardDevice(fd, offset, length);
      case kSecureDiscard:
        return DeviceRange(BLKSECDISCARD, fd, offset, length);
      default:
        return ZeroDevice(fd, offset, length);
    }
  }
  if (op == kSecureDiscard) return -EOPNOTSUPP;
  if (op == kWriteZeroes) return ZeroFile(fd, offset, length);
  return Fallocate(fd, FallocateMode(op), offset, length);
}

int DropPageCache(int fd) { return -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); }

int FindExtents(int fd, uint64_t offset, uint64_t length, std::vector<double>* ends) {
  uint64_t end = offset + length;
  bool data = true;
  // The position of the descriptor is nobody's: all else is read and written at offsets.
  for (uint64_t at = offset; at < end && ends->size() < kMostEnds; data = !data) {
    off_t found = lseek(fd, static_cast<off_t>(at), data ? SEEK_HOLE : SEEK_DATA);
    // ENXIO: there is no more data, or the file has ended before.
    if (found < 0 && errno != ENXIO) return -errno;
    uint64_t next = found >= 0 ? static_cast<uint64_t>(found) : data ? at : end;
    at = std::min(std::max(next, at), end);
    ends->push_back(static_cast<double>(at));
  }
  return 0;
}

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
