/** Numbers and layouts of the NBD protocol (doc/proto.md of the NetworkBlockDevice project). All fields are big-endian. */

export const NbdFlag = {
  readOnly: 1 << 1,
  flush: 1 << 2,
  fua: 1 << 3,
  trim: 1 << 5,
  writeZeroes: 1 << 6,
  /** What one connection flushed is stable whoever wrote it. */
  multipleConnections: 1 << 8,
} as const;

export const NbdCommand = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, writeZeroes: 6 } as const;

export const NBD_COMMAND_FUA = 1;
/** The largest transfer that every server takes, in bytes. */
export const NBD_TRANSFER_BYTES = 32 << 20;
export const NBD_REQUEST_BYTES = 28;
export const NBD_REPLY_BYTES = 16;

const REQUEST_MAGIC = 0x25609513;
const REPLY_MAGIC = 0x67446698;
const GREETING = 'NBDMAGICIHAVEOPT';
const OPTION_MAGIC = 'IHAVEOPT';
const OPTION_REPLY_MAGIC = '0003e889045565a9';
const FIXED_NEWSTYLE = 1;
const NO_ZEROES = 2;
const OPTION_GO = 7;
const REPLY_ACK = 1;
const REPLY_INFO = 3;
const REPLY_ERROR = 0x80000000;
const INFO_EXPORT = 0;
const INFO_BLOCK_SIZE = 3;
/** Longer replies to an option make no sense. */
const OPTION_REPLY_MAX = 1 << 16;

/** What a server says about an export. Sizes in bytes. */
export interface NbdExport {
  readonly size: number;
  readonly flags: number;
  readonly minimumBlock: number;
  readonly preferredBlock: number;
  readonly maximumBlock: number;
}

/** The server does not speak the protocol, or refuses. */
export class NbdRefusal extends Error {}

/**
 * The client's part of the fixed newstyle negotiation: yields how many bytes it needs next, and is given them; calls
 * `send` with what it has to say. Returns the export; throws NbdRefusal.
 */
export function* negotiate(exportName: string, send: (bytes: Buffer) => void): Generator<number, NbdExport, Buffer> {
  const greeting = yield GREETING.length + 2;
  if (greeting.toString('latin1', 0, GREETING.length) !== GREETING)
    throw new NbdRefusal('it does not greet as NBD does');
  const offered = greeting.readUInt16BE(GREETING.length);
  if (!(offered & FIXED_NEWSTYLE)) throw new NbdRefusal('it does not know the fixed newstyle negotiation');
  send(encodeGo(exportName, FIXED_NEWSTYLE | (offered & NO_ZEROES)));
  let export_: NbdExport = {
    size: 0,
    flags: 0,
    minimumBlock: 1,
    preferredBlock: 4096,
    maximumBlock: NBD_TRANSFER_BYTES,
  };
  for (;;) {
    const header = yield 20;
    if (header.toString('hex', 0, 8) !== OPTION_REPLY_MAGIC) throw new NbdRefusal('its reply is not one of NBD');
    const type = header.readUInt32BE(12);
    const length = header.readUInt32BE(16);
    if (length > OPTION_REPLY_MAX) throw new NbdRefusal('its reply is too long');
    const data = length > 0 ? yield length : Buffer.alloc(0);
    if (type === REPLY_ACK) return export_;
    if (type >= REPLY_ERROR) throw new NbdRefusal(refusal(exportName, type, data));
    if (type === REPLY_INFO) export_ = withInfo(export_, data);
  }
}

function refusal(exportName: string, type: number, data: Buffer): string {
  const reason = data.length > 0 ? data.toString('utf8') : `error ${type - REPLY_ERROR}`;
  return `it refuses the export ${JSON.stringify(exportName)}: ${reason}`;
}

/** The client's flags, then the option GO with the wish to know the block sizes. */
function encodeGo(exportName: string, flags: number): Buffer {
  const name = Buffer.from(exportName);
  const bytes = Buffer.alloc(4 + 16 + 4 + name.length + 2 + 2);
  bytes.writeUInt32BE(flags, 0);
  bytes.write(OPTION_MAGIC, 4, 'latin1');
  bytes.writeUInt32BE(OPTION_GO, 12);
  bytes.writeUInt32BE(4 + name.length + 2 + 2, 16);
  bytes.writeUInt32BE(name.length, 20);
  name.copy(bytes, 24);
  bytes.writeUInt16BE(1, 24 + name.length);
  bytes.writeUInt16BE(INFO_BLOCK_SIZE, 26 + name.length);
  return bytes;
}

function withInfo(export_: NbdExport, data: Buffer): NbdExport {
  const type = data.length >= 2 ? data.readUInt16BE(0) : -1;
  if (type === INFO_EXPORT && data.length >= 12) {
    return { ...export_, size: Number(data.readBigUInt64BE(2)), flags: data.readUInt16BE(10) };
  }
  if (type !== INFO_BLOCK_SIZE || data.length < 14) return export_;
  const [minimumBlock, preferredBlock, maximumBlock] = [2, 6, 10].map((at) => data.readUInt32BE(at));
  return { ...export_, minimumBlock, preferredBlock, maximumBlock };
}

/** Writes a request to `target[at..]`. */
export function encodeRequest(
  target: Buffer,
  at: number,
  request: { command: number; flags: number; cookie: number; offset: number; length: number },
): void {
  target.writeUInt32BE(REQUEST_MAGIC, at);
  target.writeUInt16BE(request.flags, at + 4);
  target.writeUInt16BE(request.command, at + 6);
  target.writeUInt32BE(0, at + 8);
  target.writeUInt32BE(request.cookie, at + 12);
  target.writeUInt32BE(Math.floor(request.offset / 2 ** 32), at + 16);
  target.writeUInt32BE(request.offset % 2 ** 32, at + 20);
  target.writeUInt32BE(request.length, at + 24);
}

/** The cookie and the error (0 or an errno) of a simple reply. Throws NbdRefusal. */
export function decodeReply(bytes: Buffer): { cookie: number; error: number } {
  if (bytes.readUInt32BE(0) !== REPLY_MAGIC) throw new NbdRefusal('a reply is not one of NBD');
  return { error: bytes.readUInt32BE(4), cookie: bytes.readUInt32BE(12) };
}
