#include "registrations.h"

#include <sys/uio.h>

#include <algorithm>

#ifndef IORING_RSRC_REGISTER_SPARSE
#define IORING_RSRC_REGISTER_SPARSE (1U << 0)
#endif

namespace blockdev {

namespace {

const unsigned kFiles = 512;
const unsigned kMemories = 64;
const size_t kMemoryMax = size_t{1} << 30;  // the kernel's limit

// IORING_REGISTER_BUFFERS2 and IORING_REGISTER_BUFFERS_UPDATE (5.13), and what they take, for older headers.
const unsigned kRegisterBuffers2 = 15;
const unsigned kRegisterBuffersUpdate = 16;
struct ResourceTable {
  uint32_t count, flags;
  uint64_t reserved, data, tags;
};
struct ResourceUpdate {
  uint32_t offset, reserved;
  uint64_t data, tags;
  uint32_t count, reserved2;
};

}  // namespace

void Registrations::Open() {
  std::vector<int> none(kFiles, -1);
  // A low RLIMIT_NOFILE may forbid it.
  if (ring_.Register(IORING_REGISTER_FILES, none.data(), kFiles) == 0) files_ = none;
  ResourceTable table = {};
  table.count = kMemories;
  table.flags = IORING_RSRC_REGISTER_SPARSE;
  if (ring_.Register(kRegisterBuffers2, &table, sizeof(table)) == 0) memories_.resize(kMemories);
}

int Registrations::AddFile(int fd) {
  auto free = std::find(files_.begin(), files_.end(), -1);
  size_t index = static_cast<size_t>(free - files_.begin());
  if (free == files_.end() || SetFile(index, fd) < 0) return -1;
  *free = fd;
  return static_cast<int>(index);
}

void Registrations::RemoveFile(int index) {
  if (index < 0) return;
  SetFile(static_cast<size_t>(index), -1);
  files_[static_cast<size_t>(index)] = -1;
}

int Registrations::SetFile(size_t index, int fd) {
  io_uring_files_update update = {};
  update.offset = static_cast<uint32_t>(index);
  update.fds = reinterpret_cast<uintptr_t>(&fd);
  return ring_.Register(IORING_REGISTER_FILES_UPDATE, &update, 1);
}

int Registrations::AddMemory(char* base, size_t bytes) {
  if (bytes == 0 || bytes > kMemoryMax) return -1;
  size_t free = memories_.size();
  for (size_t i = 0; i < memories_.size(); i++) {
    Memory& known = memories_[i];
    if (known.users > 0 && known.base == base) {
      known.users++;
      return static_cast<int>(i);
    }
    if (known.users == 0 && free == memories_.size()) free = i;
  }
  // RLIMIT_MEMLOCK may forbid it.
  if (free == memories_.size() || SetMemory(free, base, bytes) < 0) return -1;
  memories_[free] = {base, 1};
  return static_cast<int>(free);
}

void Registrations::RemoveMemory(int index) {
  if (index < 0 || --memories_[static_cast<size_t>(index)].users > 0) return;
  SetMemory(static_cast<size_t>(index), nullptr, 0);
}

int Registrations::SetMemory(size_t index, char* base, size_t bytes) {
  iovec memory = {base, bytes};
  uint64_t tag = 0;
  ResourceUpdate update = {};
  update.offset = static_cast<uint32_t>(index);
  update.data = reinterpret_cast<uintptr_t>(&memory);
  update.tags = reinterpret_cast<uintptr_t>(&tag);
  update.count = 1;
  return ring_.Register(kRegisterBuffersUpdate, &update, sizeof(update));
}

}  // namespace blockdev
