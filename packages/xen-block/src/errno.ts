/** Results of calls below, as the negative numbers that they are. */
export const Errno = { EAGAIN: -11, ETIME: -62, EOPNOTSUPP: -95 } as const;
