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
  listMetaContext: 9,
  setMetaContext: 10,
} as const;

export const NbdOptionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  /** Replies from here on are errors. */
  error: 0x80000000,
  unsupported: 0x80000001,
  invalid: 0x80000003,
  unknown: 0x80000006,
  tooBig: 0x80000009,
} as const;

export const NbdInfo = { export: 0, description: 2, blockSize: 3 } as const;

/** NBD_FLAG_*: the transmission flags, what an export can do. */
export const NbdFlag = {
  /** NBD_FLAG_HAS_FLAGS: always set. */
  hasFlags: 1 << 0,
  /** NBD_FLAG_READ_ONLY: writes are refused. */
  readOnly: 1 << 1,
  /** NBD_FLAG_SEND_FLUSH: NBD_CMD_FLUSH is taken. */
  sendFlush: 1 << 2,
  /** NBD_FLAG_SEND_FUA: NBD_CMD_FLAG_FUA is taken. */
  sendFua: 1 << 3,
  /** NBD_FLAG_SEND_TRIM: NBD_CMD_TRIM is taken. */
  sendTrim: 1 << 5,
  /** NBD_FLAG_SEND_WRITE_ZEROES: NBD_CMD_WRITE_ZEROES and its NBD_CMD_FLAG_NO_HOLE are taken. */
  sendWriteZeroes: 1 << 6,
  /** NBD_FLAG_SEND_DF: NBD_CMD_FLAG_DF is taken, which needs structured replies. */
  sendDf: 1 << 7,
  /** NBD_FLAG_CAN_MULTI_CONN: what one connection flushed is stable, whichever connection wrote it. */
  canMultiConn: 1 << 8,
} as const;

/** NBD_CMD_*: what a request asks for. */
export const NbdCommand = {
  /** NBD_CMD_READ. */
  read: 0,
  /** NBD_CMD_WRITE: the data follows the request. */
  write: 1,
  /** NBD_CMD_DISC: the client goes; there is no reply. */
  disconnect: 2,
  /** NBD_CMD_FLUSH: all writes that were answered are on stable storage before the reply. */
  flush: 3,
  /** NBD_CMD_TRIM: the data of a range is not needed; it is undefined until written again. */
  trim: 4,
  /** NBD_CMD_WRITE_ZEROES: a write of zeroes that are not sent. */
  writeZeroes: 6,
  /** NBD_CMD_BLOCK_STATUS: what the meta contexts that the client has chosen tell of a range. */
  blockStatus: 7,
} as const;

/** NBD_CMD_FLAG_*: how it is to be done. */
export const NbdCommandFlag = {
  /** NBD_CMD_FLAG_FUA: what the command has written is on stable storage before the reply. */
  fua: 1 << 0,
  /** NBD_CMD_FLAG_NO_HOLE, of NBD_CMD_WRITE_ZEROES: the range must be allocated, not punched out. */
  noHole: 1 << 1,
  /** NBD_CMD_FLAG_DF, of NBD_CMD_READ: the structured reply's data is to come in one chunk. */
  df: 1 << 2,
  /** NBD_CMD_FLAG_REQ_ONE, of NBD_CMD_BLOCK_STATUS: one range is enough. */
  reqOne: 1 << 3,
} as const;

/** Types of a structured reply's chunk. */
export const NbdChunk = { offsetData: 1, blockStatus: 5, error: 0x8001 } as const;
/** The bit of a chunk's type that makes it an error. */
export const NBD_CHUNK_ERROR = 0x8000;
/** Flags of a structured reply's chunk. */
export const NbdChunkFlag = { done: 1 << 0 } as const;

/** The meta context of what is stored at all: its ranges have bits of `NbdState`. */
export const NBD_BASE_ALLOCATION = 'base:allocation';
/** NBD_STATE_*: what `base:allocation` tells of a range. */
export const NbdState = {
  /** NBD_STATE_HOLE: nothing is stored for it, so that writing to it may fail for want of room. */
  hole: 1 << 0,
  /** NBD_STATE_ZERO: it reads as zeroes. */
  zero: 1 << 1,
} as const;

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
