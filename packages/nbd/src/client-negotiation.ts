/**
 * The client's part of the fixed newstyle negotiation (doc/proto.md of the NetworkBlockDevice project), without I/O: the
 * bytes come from whoever owns the socket. Nothing that the server says is believed beyond what is checked here.
 */
import {
  NBD_MAX_REQUEST,
  NBD_OPTION_BYTES,
  NbdHandshake,
  NbdInfo,
  NbdMagic,
  NbdOption,
  NbdOptionReply,
} from './protocol.js';

/** Bytes of the head of a reply to an option: magic, option, type, length. */
const OPTION_REPLY_BYTES = 20;
/** Longer replies to an option make no sense. */
const MAX_OPTION_REPLY_BYTES = 1 << 16;

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
export function* negotiateExport(
  exportName: string,
  send: (bytes: Buffer) => void,
): Generator<number, NbdExport, Buffer> {
  const magic = NbdMagic.greeting;
  const greeting = yield magic.length + 2;
  if (!greeting.subarray(0, magic.length).equals(magic)) throw new NbdRefusal('it does not greet as NBD does');
  const offered = greeting.readUInt16BE(magic.length);
  if (!(offered & NbdHandshake.fixedNewstyle)) {
    throw new NbdRefusal('it does not know the fixed newstyle negotiation');
  }
  send(encodeGo(exportName, NbdHandshake.fixedNewstyle | (offered & NbdHandshake.noZeroes)));
  let found: NbdExport = {
    size: 0,
    flags: 0,
    minimumBlock: 1,
    preferredBlock: 4096,
    maximumBlock: NBD_MAX_REQUEST,
  };
  for (;;) {
    const header = yield OPTION_REPLY_BYTES;
    if (!header.subarray(0, 8).equals(NbdMagic.optionReply)) throw new NbdRefusal('its reply is not one of NBD');
    const type = header.readUInt32BE(12);
    const length = header.readUInt32BE(16);
    if (length > MAX_OPTION_REPLY_BYTES) throw new NbdRefusal('its reply is too long');
    const data = length > 0 ? yield length : Buffer.alloc(0);
    if (type === NbdOptionReply.ack) return found;
    if (type >= NbdOptionReply.error) throw new NbdRefusal(refusal(exportName, type, data));
    if (type === NbdOptionReply.info) found = withInfo(found, data);
  }
}

function refusal(exportName: string, type: number, data: Buffer): string {
  const reason = data.length > 0 ? data.toString('utf8') : `error ${type - NbdOptionReply.error}`;
  return `it refuses the export ${JSON.stringify(exportName)}: ${reason}`;
}

/** The client's flags, then the option GO with the wish to know the block sizes. */
function encodeGo(exportName: string, flags: number): Buffer {
  const name = Buffer.from(exportName);
  const bytes = Buffer.alloc(4 + NBD_OPTION_BYTES + 4 + name.length + 2 + 2);
  bytes.writeUInt32BE(flags, 0);
  NbdMagic.option.copy(bytes, 4);
  bytes.writeUInt32BE(NbdOption.go, 12);
  bytes.writeUInt32BE(4 + name.length + 2 + 2, 16);
  bytes.writeUInt32BE(name.length, 20);
  name.copy(bytes, 24);
  bytes.writeUInt16BE(1, 24 + name.length);
  bytes.writeUInt16BE(NbdInfo.blockSize, 26 + name.length);
  return bytes;
}

function withInfo(found: NbdExport, data: Buffer): NbdExport {
  const type = data.length >= 2 ? data.readUInt16BE(0) : -1;
  if (type === NbdInfo.export && data.length >= 12) {
    return { ...found, size: Number(data.readBigUInt64BE(2)), flags: data.readUInt16BE(10) };
  }
  if (type !== NbdInfo.blockSize || data.length < 14) return found;
  const [minimumBlock, preferredBlock, maximumBlock] = [2, 6, 10].map((at) => data.readUInt32BE(at));
  return { ...found, minimumBlock, preferredBlock, maximumBlock };
}
