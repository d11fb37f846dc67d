#include "descriptors.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace blockdev {

namespace {

struct flock OneByte(int type, off_t byte) {
  struct flock lock = {};
  lock.l_type = static_cast<short>(type);
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

int Set(int fd, int type, off_t byte) {
  struct flock lock = OneByte(type, byte);
  return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

}  // namespace

int LockByte(int fd, off_t byte) { return Set(fd, F_RDLCK, byte); }

int UnlockByte(int fd, off_t byte) { return Set(fd, F_UNLCK, byte); }

int ByteLockedElsewhere(int fd, off_t byte) {
  struct flock lock = OneByte(F_WRLCK, byte);
  if (fcntl(fd, F_OFD_GETLK, &lock) < 0) return -errno;
  return lock.l_type == F_UNLCK ? 0 : 1;
}

int DuplicateDescriptor(int fd) {
  int result = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  return result < 0 ? -errno : result;
}

int CloseDescriptor(int fd) { return close(fd) < 0 ? -errno : 0; }

}  // namespace blockdev
