#ifndef BLOCKDEV_GUARDED_MEMORY_H
#define BLOCKDEV_GUARDED_MEMORY_H

#include <cstddef>
#include <memory>

namespace blockdev {

// Whole pages of zeroed memory between two pages that nobody can touch: who runs over an end of it dies at once, instead
// of changing what belongs to others. The pages around it take address space and no memory.
class GuardedMemory {
 public:
  // Rounds up. nullptr without memory.
  static std::shared_ptr<GuardedMemory> Allocate(size_t bytes);
  // The memory that begins at `data` or goes over it, of any thread; or nullptr. A buffer of JavaScript may lose its
  // memory at any time, so whoever goes on using it has to share it.
  static std::shared_ptr<GuardedMemory> Find(const void* data);

  ~GuardedMemory();
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  char* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  GuardedMemory(char* data, size_t bytes) : data_(data), bytes_(bytes) {}

  char* data_;
  size_t bytes_;
};

}  // namespace blockdev

#endif
