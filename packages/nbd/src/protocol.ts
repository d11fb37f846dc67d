/**
 * Numbers and layouts of the NBD protocol (doc/proto.md of the NetworkBlockDevice project), the fixed newstyle
 * negotiation. All fields are big-endian.
 */

/** The largest READ or WRITE, in bytes: what the protocol asks every server to accept. */
export const NBD_MAX_REQUEST = 32 * 1024 * 1024;

/** Bytes of a transmission request: magic, flags, type, cookie, offset, length. */
export const NBD_REQUEST_BYTES = 28;
/** Bytes of an option request before its data: IHAVEOPT, option, length. */
export const NBD_OPTION_BYTES = 16;
/** Bytes of a simple reply before its data: magic, error, cookie. */
export const NBD_SIMPLE_REPLY_BYTES = 16;

export const NbdMagic = {
  greeting: Buffer.from('NBDMAGICIHAVEOPT', 'latin1'),
  option: Buffer.from('IHAVEOPT', 'latin1'),
  optionReply: Buffer.from('0003e889045565a9', 'hex'),
  request: 0x25609513,
  simpleReply: 0x67446698,
  structuredReply: 0x668e33ef,
} as const;

/** Flags of the greeting and of the client's answer; both sides number them alike. */
export const NbdHandshake = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const NbdOption = {
  exportName: 1,
  abort: 2,
  list: 3,
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

export const NbdCommand = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, writeZeroes: 6 } as const;

export const NbdCommandFlag = { fua: 1 << 0, noHole: 1 << 1, df: 1 << 2 } as const;

const NbdReplyType = { none: 0, offsetData: 1, error: 0x8001 } as const;
const REPLY_DONE = 1;

export const NbdError = { eperm: 1, eio: 5, enomem: 12, einval: 22, enospc: 28, enotsup: 95, eshutdown: 108 } as const;

const NBD_ERROR_OF: Record<string, number> = {
  EPERM: NbdError.eperm,
  EACCES: NbdError.eperm,
  EROFS: NbdError.eperm,
  ENOMEM: NbdError.enomem,
  EINVAL: NbdError.einval,
  ENOSPC: NbdError.enospc,
  EOPNOTSUPP: NbdError.enotsup,
  ENOTSUP: NbdError.enotsup,
};

/** The NBD error for what a disk failed with, by its `code`, an errno name; EIO for all others. */
export function nbdErrorOf(error: unknown): number {
  const code = (error as { code?: unknown } | undefined)?.code;
  return (typeof code === 'string' ? NBD_ERROR_OF[code] : undefined) ?? NbdError.eio;
}

export function encodeOptionReply(option: number, type: number, data: Uint8Array = new Uint8Array(0)): Buffer {
  const reply = Buffer.alloc(20 + data.length);
  NbdMagic.optionReply.copy(reply);
  reply.writeUInt32BE(option, 8);
  reply.writeUInt32BE(type, 12);
  reply.writeUInt32BE(data.length, 16);
  reply.set(data, 20);
  return reply;
}

/** What EXPORT_NAME, and NBD_INFO_EXPORT after its type, begin with: size in bytes and transmission flags. */
export function encodeExport(size: number, flags: number): Buffer {
  const data = Buffer.alloc(10);
  data.writeBigUInt64BE(BigInt(size), 0);
  data.writeUInt16BE(flags, 8);
  return data;
}

export function encodeBlockSizes(minimum: number, preferred: number, maximum: number): Buffer {
  const data = Buffer.alloc(14);
  data.writeUInt16BE(NbdInfo.blockSize, 0);
  data.writeUInt32BE(minimum, 2);
  data.writeUInt32BE(preferred, 6);
  data.writeUInt32BE(maximum, 10);
  return data;
}

/** Writes a request to `target[at..]`. A client's own cookies are 32 bits wide; `offset` is in bytes. */
export function encodeRequest(
  target: Buffer,
  at: number,
  request: { command: number; flags: number; cookie: number; offset: number; length: number },
): void {
  target.writeUInt32BE(NbdMagic.request, at);
  target.writeUInt16BE(request.flags, at + 4);
  target.writeUInt16BE(request.command, at + 6);
  target.writeUInt32BE(0, at + 8);
  target.writeUInt32BE(request.cookie, at + 12);
  target.writeUInt32BE(Math.floor(request.offset / 2 ** 32), at + 16);
  target.writeUInt32BE(request.offset % 2 ** 32, at + 20);
  target.writeUInt32BE(request.length, at + 24);
}

/** The cookie and the error (0 or an errno) of a simple reply; undefined if the bytes are none. */
export function decodeSimpleReply(bytes: Buffer): { cookie: number; error: number } | undefined {
  if (bytes.readUInt32BE(0) !== NbdMagic.simpleReply) return undefined;
  return { error: bytes.readUInt32BE(4), cookie: bytes.readUInt32BE(12) };
}

/** A simple reply's header; the data of a READ follows it. */
export function encodeSimpleReply(cookie: Uint8Array, error: number): Buffer {
  const reply = Buffer.allocUnsafe(NBD_SIMPLE_REPLY_BYTES);
  reply.writeUInt32BE(NbdMagic.simpleReply, 0);
  reply.writeUInt32BE(error, 4);
  reply.set(cookie, 8);
  return reply;
}

/** The only chunk of a successful structured READ, before its data. */
export function encodeDataChunk(cookie: Uint8Array, offset: number, length: number): Buffer {
  const reply = encodeChunk(cookie, NbdReplyType.offsetData, 8, 8 + length);
  reply.writeUInt32BE(Math.floor(offset / 2 ** 32), 20);
  reply.writeUInt32BE(offset % 2 ** 32, 24);
  return reply;
}

/** The only chunk of a failed structured READ. */
export function encodeErrorChunk(cookie: Uint8Array, error: number, message: string): Buffer {
  const text = Buffer.from(message).subarray(0, 1024);
  const reply = encodeChunk(cookie, NbdReplyType.error, 6 + text.length, 6 + text.length);
  reply.writeUInt32BE(error, 20);
  reply.writeUInt16BE(text.length, 24);
  reply.set(text, 26);
  return reply;
}

function encodeChunk(cookie: Uint8Array, type: number, bytesHere: number, length: number): Buffer {
  const reply = Buffer.allocUnsafe(20 + bytesHere);
  reply.writeUInt32BE(NbdMagic.structuredReply, 0);
  reply.writeUInt16BE(REPLY_DONE, 4);
  reply.writeUInt16BE(type, 6);
  reply.set(cookie, 8);
  reply.writeUInt32BE(length, 16);
  return reply;
}
