import { constants } from 'node:os';

/** Results of operations that failed: the negative errno numbers that engines give themselves. */
export const Failure = {
  io: -constants.errno.EIO,
  invalid: -constants.errno.EINVAL,
  fault: -constants.errno.EFAULT,
  noSpace: -constants.errno.ENOSPC,
  readOnly: -constants.errno.EROFS,
  unsupported: -constants.errno.EOPNOTSUPP,
} as const;
