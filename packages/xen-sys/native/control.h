#pragma once

#include <sys/ioctl.h>

#include <cerrno>
#include <cstdint>

/** ioctl(2), made again while a signal interrupts: 0 or more, or -1 with errno. */
inline int Control(int fd, uint32_t request, void* argument) {
  int result;
  do {
    result = ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result;
}
