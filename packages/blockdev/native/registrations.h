#ifndef BLOCKDEV_REGISTRATIONS_H
#define BLOCKDEV_REGISTRATIONS_H

#include <cstddef>
#include <cstdint>
#include <vector>

#include "uring.h"

namespace blockdev {

// The ring's tables of files and of buffers. What is in them costs less per operation: no reference count of the file,
// no look-up of the memory's pages. Both are optional: limits of the process or an old kernel may forbid them, which
// costs speed and nothing else.
class Registrations {
 public:
  explicit Registrations(Uring& ring) : ring_(ring) {}

  // Makes the tables, empty, as far as the kernel allows.
  void Open();

  // An index for operations with IOSQE_FIXED_FILE, or -1.
  int AddFile(int fd);
  // Takes -1 too.
  void RemoveFile(int index);

  // An index for READ_FIXED and WRITE_FIXED, or -1. Memory that several queues have is registered once.
  int AddMemory(char* base, size_t bytes);
  // Takes -1 too.
  void RemoveMemory(int index);

 private:
  struct Memory {
    const char* base = nullptr;
    uint32_t users = 0;
  };

  int SetFile(size_t index, int fd);
  int SetMemory(size_t index, char* base, size_t bytes);

  Uring& ring_;
  std::vector<int> files_;  // -1 where free
  std::vector<Memory> memories_;
};

}  // namespace blockdev

#endif
