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
} as const;
