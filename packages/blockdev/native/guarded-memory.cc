#include "guarded-memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>

namespace blockdev {

namespace {

// All of the process by their first bytes. It is never destroyed: threads may outlive it.
struct Known {
  std::mutex mutex;
  std::map<const char*, std::weak_ptr<GuardedMemory>> memories;
};

Known& AllKnown() {
  static Known* known = new Known();
  return *known;
}

size_t PageBytes() {
  static const auto bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

}  // namespace

std::shared_ptr<GuardedMemory> GuardedMemory::Allocate(size_t bytes) {
  const size_t page = PageBytes();
  if (bytes > SIZE_MAX - 3 * page) return nullptr;
  const size_t inner = (std::max<size_t>(bytes, 1) + page - 1) / page * page;
  void* outer = mmap(nullptr, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (outer == MAP_FAILED) return nullptr;
  char* data = static_cast<char*>(outer) + page;
  if (mprotect(data, inner, PROT_READ | PROT_WRITE) < 0) {
    munmap(outer, inner + 2 * page);
    return nullptr;
  }
  std::shared_ptr<GuardedMemory> memory(new GuardedMemory(data, inner));
  Known& known = AllKnown();
  std::lock_guard<std::mutex> lock(known.mutex);
  known.memories[data] = memory;
  return memory;
}

std::shared_ptr<GuardedMemory> GuardedMemory::Find(const void* data) {
  const auto* at = static_cast<const char*>(data);
  Known& known = AllKnown();
  std::lock_guard<std::mutex> lock(known.mutex);
  auto next = known.memories.upper_bound(at);
  if (next == known.memories.begin()) return nullptr;
  std::shared_ptr<GuardedMemory> memory = std::prev(next)->second.lock();
  return memory && at < memory->data_ + memory->bytes_ ? memory : nullptr;
}

GuardedMemory::~GuardedMemory() {
  {
    Known& known = AllKnown();
    std::lock_guard<std::mutex> lock(known.mutex);
    known.memories.erase(data_);
  }
  munmap(data_ - PageBytes(), bytes_ + 2 * PageBytes());
}

}  // namespace blockdev
