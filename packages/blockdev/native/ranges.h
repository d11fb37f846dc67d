#ifndef BLOCKDEV_RANGES_H
#define BLOCKDEV_RANGES_H

#include <cstdint>
#include <vector>

namespace blockdev {

// The numbers of BlockOp in src/block-image.ts.
enum Op { kRead = 0, kWrite = 1, kWriteFua = 2, kFlush = 3, kDiscard = 4, kSecureDiscard = 5, kWriteZeroes = 6 };

// Mode of fallocate(2) for an operation on a range.
int FallocateMode(int op);

// Frees or zeroes a range, blocking. 0 or a negative errno.
int PerformRange(int op, int fd, bool block_device, uint64_t offset, uint64_t length);

// Begins to write out what the page cache has of a file, and drops what is clean of it. 0 or a negative errno.
int DropPageCache(int fd);

// Where data and holes of a range of a file end, as far as the file system tells, blocking: they take turns, and data is
// first, which is empty where a hole is. Ends before the range does if there are very many. 0 or a negative errno.
int FindExtents(int fd, uint64_t offset, uint64_t length, std::vector<double>* ends);

// Alignment that O_DIRECT wants, in bytes (statx STATX_DIOALIGN, 6.1): 0 where O_DIRECT does not work.
// -EOPNOTSUPP when the kernel or the file system does not say.
int DirectAlignment(int fd, double* memory, double* offset);

}  // namespace blockdev

#endif
