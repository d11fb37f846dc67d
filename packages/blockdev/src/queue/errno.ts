import { constants } from 'node:os';

const { EIO, EINVAL, EFAULT, ENOSPC, EROFS, EOPNOTSUPP } = constants.errno;

/** The errnos that engines give themselves, negative, as results are. */
export const Errno = {
  EIO: -EIO,
  EINVAL: -EINVAL,
  EFAULT: -EFAULT,
  ENOSPC: -ENOSPC,
  EROFS: -EROFS,
  EOPNOTSUPP: -EOPNOTSUPP,
  /** Linux's number, which Node does not know: writes that were acknowledged and not flushed are gone. */
  EOWNERDEAD: -130,
} as const;
