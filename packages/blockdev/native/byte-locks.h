#pragma once

namespace blockdev {

/** Locks one byte of a file, shared, for its open file description (F_OFD_SETLK). 0 or a negative errno. */
int LockByte(int fd, long byte);
int UnlockByte(int fd, long byte);

/** Whether another open file description has a lock on the byte: 1, 0 or a negative errno. */
int ByteLockedElsewhere(int fd, long byte);

}  // namespace blockdev
