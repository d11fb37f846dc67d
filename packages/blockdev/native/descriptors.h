#pragma once

#include <sys/types.h>

namespace blockdev {

/** Locks one byte of a file, shared, for its open file description (F_OFD_SETLK). 0 or a negative errno. */
int LockByte(int fd, off_t byte);
int UnlockByte(int fd, off_t byte);

/** Whether another open file description has a lock on the byte: 1, 0 or a negative errno. */
int ByteLockedElsewhere(int fd, off_t byte);

/** Another descriptor of the same open file description, with its locks; or a negative errno. */
int DuplicateDescriptor(int fd);

/** 0 or a negative errno. */
int CloseDescriptor(int fd);

}  // namespace blockdev
