/** Linux's errno numbers as operations return them: negative. */
export const Errno = {
  EPERM: -1,
  ENOENT: -2,
  ESRCH: -3,
  EINTR: -4,
  EIO: -5,
  EAGAIN: -11,
  ENOMEM: -12,
  EACCES: -13,
  EFAULT: -14,
  EBUSY: -16,
  EEXIST: -17,
  EINVAL: -22,
  ENOSPC: -28,
  ETIME: -62,
  EOPNOTSUPP: -95,
  ENOTCONN: -107,
} as const;
