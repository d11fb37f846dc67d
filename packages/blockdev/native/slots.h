#ifndef BLOCKDEV_SLOTS_H
#define BLOCKDEV_SLOTS_H

#include <linux/io_uring.h>

#include "queue.h"

// The life of one operation: it is taken from what JavaScript has staged, put into an entry of the ring, perhaps more
// than once, and is over when a completion says so. JavaScript refuses what a guest must not ask for; what would reach
// memory outside of the queue's regions ends with -EFAULT here too.
namespace blockdev {

// Layout of what JavaScript stages: STAGED_WORDS of src/queue/staging.ts, IOV_WORDS of src/block-image.ts.
const int kStagedWords = 6;
const int kIovWords = 3;
// NOTHING of src/queue/staging.ts.
const int kNothing = -0x10000;

// What the running kernel turned out not to do.
struct KernelLimits {
  bool device_discard = true;  // io_uring discards block devices (6.12)
};

// Gives every slot of a queue to its list of free ones.
void InitSlots(Queue* queue, uint32_t depth);

// Fills a slot from the words of a staged operation. One that JavaScript has refused has its result already, one that is
// nonsense gets -EINVAL or -EFAULT.
void TakeStaged(const Queue& queue, const double* words, Slot& slot);

// Whether the operation takes more than an entry of the ring can say, and needs a thread of the pool.
bool NeedsThread(const Queue& queue, const Slot& slot, const KernelLimits& limits);

// Puts what is left of the operation into a zeroed entry.
void FillEntry(io_uring_sqe* entry, const Queue& queue, const Slot& slot);

// Takes one result of the operation, bytes or a negative errno. True: it is over, and `slot.result` is its result.
// False: the rest of it, or all in another way, must be issued again.
bool TakeResult(const Queue& queue, Slot& slot, int result, KernelLimits& limits);

}  // namespace blockdev

#endif
