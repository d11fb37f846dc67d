/**
 * Numbers of the NBD protocol (doc/proto.md of the NetworkBlockDevice project): the fixed newstyle negotiation, and
 * transmission with simple and structured replies. Each number is here once, for both sides.
 */

/** The largest READ or WRITE, in bytes: what the protocol asks every server to accept. */
export const NBD_MAX_REQUEST = 32 * 1024 * 1024;
/** The longest string, such as an export's name or an error's message, in bytes. */
export const NBD_MAX_STRING = 4096;

export const NbdMagic = {
  greeting: Buffer.from('NBDMAGICIHAVEOPT', 'latin1'),
  option: Buffer.from('IHAVEOPT', 'latin1'),
  optionReply: Buffer.from('0003e889045565a9', 'hex'),
  request: 0x25609513,
  simpleReply: 0x67446698,
  structuredReply: 0x668e33ef,
} as const;

/** Flags of the greeting and of the client's answer; both sides number them alike. */
export const NbdHandshake = { fixedNewstyle: 1 << 0, noZeroes: 1 << 1 } as const;

export const NbdOption = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
} as const;

export const NbdOptionReply = {
  ack: 1,
  server: 2,
  info: 3,
  /** Replies from here on are errors. */
  error: 0x80000000,
  unsupported: 0x80000001,
  invalid: 0x80000003,
  unknown: 0x80000006,
  tooBig: 0x80000009,
} as const;

export const NbdInfo = { export: 0, blockSize: 3 } as const;

/** Transmission flags: what an export can do. */
export const NbdFlag = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  /** What one connection flushed is stable, whichever connection wrote it. */
  canMultiConn: 1 << 8,
} as const;

/** NBD_CMD_*: what a request asks for. */
export const NbdCommand = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, writeZeroes: 6 } as const;

/** NBD_CMD_FLAG_*: how it is to be done. */
export const NbdCommandFlag = { fua: 1 << 0, noHole: 1 << 1, df: 1 << 2 } as const;

/** Types of a structured reply's chunk. */
export const NbdChunk = { offsetData: 1, error: 0x8001 } as const;
/** Flags of a structured reply's chunk. */
export const NbdChunkFlag = { done: 1 << 0 } as const;

/** The errnos that replies carry, whatever the machine's own are. */
export const NbdErrno = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
} as const;
/** The errno of a server that is about to end: nothing is said of the request. */
export const NBD_ESHUTDOWN = 108;

const KNOWN_ERRNOS: ReadonlySet<number> = new Set(Object.values(NbdErrno));

/** What a client takes a reply's error for: the protocol's errno, or EIO for any other number. */
export function knownNbdErrno(error: number): number {
  return KNOWN_ERRNOS.has(error) ? error : NbdErrno.EIO;
}

const NBD_ERRNO_OF: Readonly<Record<string, number>> = {
  ...NbdErrno,
  EACCES: NbdErrno.EPERM,
  EROFS: NbdErrno.EPERM,
  EOPNOTSUPP: NbdErrno.ENOTSUP,
};

/** The NBD errno for what a disk failed with, by its `code`, an errno name; EIO for all others. */
export function nbdErrnoOf(error: unknown): number {
  const code = (error as { code?: unknown } | undefined)?.code;
  return (typeof code === 'string' ? NBD_ERRNO_OF[code] : undefined) ?? NbdErrno.EIO;
}
