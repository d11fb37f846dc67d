/** Layouts of the fixed newstyle negotiation, as both sides write and read them. All fields are big-endian. */
import { NBD_MAX_STRING, NbdInfo, NbdMagic } from './numbers.js';

/** Bytes of the server's greeting: magic, flags. */
export const NBD_GREETING_BYTES = 18;
/** Bytes of the client's answer to the greeting: flags. */
export const NBD_CLIENT_FLAGS_BYTES = 4;
/** Bytes of an option before its data: IHAVEOPT, option, length. */
export const NBD_OPTION_BYTES = 16;
/** Bytes of a reply to an option before its data: magic, option, type, length. */
export const NBD_OPTION_REPLY_BYTES = 20;

const NO_DATA = new Uint8Array(0);

export function encodeGreeting(flags: number): Buffer {
  const greeting = Buffer.alloc(NBD_GREETING_BYTES);
  NbdMagic.greeting.copy(greeting);
  greeting.writeUInt16BE(flags, 16);
  return greeting;
}

/** The server's flags; undefined if it does not greet as NBD does. */
export function decodeGreeting(greeting: Buffer): number | undefined {
  return greeting.subarray(0, 16).equals(NbdMagic.greeting) ? greeting.readUInt16BE(16) : undefined;
}

export function encodeClientFlags(flags: number): Buffer {
  const bytes = Buffer.alloc(NBD_CLIENT_FLAGS_BYTES);
  bytes.writeUInt32BE(flags, 0);
  return bytes;
}

export function encodeOption(option: number, data: Uint8Array): Buffer {
  const bytes = Buffer.alloc(NBD_OPTION_BYTES + data.length);
  NbdMagic.option.copy(bytes);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(data.length, 12);
  bytes.set(data, NBD_OPTION_BYTES);
  return bytes;
}

/** An option and how many bytes of data follow; undefined if it is none. */
export function decodeOption(header: Buffer): { option: number; length: number } | undefined {
  if (!header.subarray(0, 8).equals(NbdMagic.option)) return undefined;
  return { option: header.readUInt32BE(8), length: header.readUInt32BE(12) };
}

export function encodeOptionReply(option: number, type: number, data: Uint8Array = NO_DATA): Buffer {
  const reply = Buffer.alloc(NBD_OPTION_REPLY_BYTES + data.length);
  NbdMagic.optionReply.copy(reply);
  reply.writeUInt32BE(option, 8);
  reply.writeUInt32BE(type, 12);
  reply.writeUInt32BE(data.length, 16);
  reply.set(data, NBD_OPTION_REPLY_BYTES);
  return reply;
}

/** The option that is answered, the reply's type and how many bytes of data follow; undefined if it is none. */
export function decodeOptionReply(header: Buffer): { option: number; type: number; length: number } | undefined {
  if (!header.subarray(0, 8).equals(NbdMagic.optionReply)) return undefined;
  return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), length: header.readUInt32BE(16) };
}

/** The data of INFO and GO: an export's name and which information is wanted, NbdInfo numbers. */
export function encodeInfoRequest(exportName: string, wanted: readonly number[]): Buffer {
  const name = Buffer.from(exportName);
  const data = Buffer.alloc(6 + name.length + 2 * wanted.length);
  data.writeUInt32BE(name.length, 0);
  name.copy(data, 4);
  data.writeUInt16BE(wanted.length, 4 + name.length);
  for (const [i, info] of wanted.entries()) data.writeUInt16BE(info, 6 + name.length + 2 * i);
  return data;
}

/** The export's name and the NbdInfo numbers in the data of INFO or GO; undefined if malformed. */
export function decodeInfoRequest(data: Buffer): { name: string; wanted: readonly number[] } | undefined {
  if (data.length < 6) return undefined;
  const length = data.readUInt32BE(0);
  if (length > Math.min(data.length - 6, NBD_MAX_STRING)) return undefined;
  const count = data.readUInt16BE(4 + length);
  if (data.length !== 6 + length + 2 * count) return undefined;
  const wanted = Array.from({ length: count }, (_, i) => data.readUInt16BE(6 + length + 2 * i));
  return { name: data.toString('utf8', 4, 4 + length), wanted };
}

/** The data of a reply to LIST. */
export function encodeListEntry(exportName: string, description = ''): Buffer {
  const name = Buffer.from(exportName);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(name.length, 0);
  return Buffer.concat([length, name, Buffer.from(description)]);
}

/** The data of an NBD_INFO_DESCRIPTION. */
export function encodeDescription(description: string): Buffer {
  const type = Buffer.alloc(2);
  type.writeUInt16BE(NbdInfo.description, 0);
  return Buffer.concat([type, Buffer.from(description)]);
}

/** What the answer to EXPORT_NAME begins with: size in bytes and transmission flags. */
export function encodeExport(size: number, flags: number): Buffer {
  const data = Buffer.alloc(10);
  data.writeBigUInt64BE(BigInt(size), 0);
  data.writeUInt16BE(flags, 8);
  return data;
}

/** The data of an INFO reply about the export itself. */
export function encodeExportInfo(size: number, flags: number): Buffer {
  const type = Buffer.alloc(2);
  type.writeUInt16BE(NbdInfo.export, 0);
  return Buffer.concat([type, encodeExport(size, flags)]);
}

/** Undefined if the data is not the {@link encodeExportInfo} of a size below 2^53. */
export function decodeExportInfo(data: Buffer): { size: number; flags: number } | undefined {
  if (data.length !== 12) return undefined;
  const size = Number(data.readBigUInt64BE(2));
  return Number.isSafeInteger(size) ? { size, flags: data.readUInt16BE(10) } : undefined;
}

/** The block size constraints of an export (NBD_INFO_BLOCK_SIZE), in bytes. */
export interface NbdBlockSizes {
  /**
   * What offsets and lengths of requests must be multiples of: a power of two, at most 65536. 1 where the server does
   * not say.
   */
  readonly minimumBlock: number;
  /**
   * What they had better be multiples of, at least `minimumBlock`: a power of two; any other number of a
   * server's is rounded down to one. 4096 where the server does not say.
   */
  readonly preferredBlock: number;
  /** The longest READ or WRITE that is taken; 0xffffffff: any. 32 MiB where the server does not say. */
  readonly maximumBlock: number;
}

/** The data of an INFO reply about block sizes. */
export function encodeBlockSizes({ minimumBlock, preferredBlock, maximumBlock }: NbdBlockSizes): Buffer {
  const data = Buffer.alloc(14);
  data.writeUInt16BE(NbdInfo.blockSize, 0);
  data.writeUInt32BE(minimumBlock, 2);
  data.writeUInt32BE(preferredBlock, 6);
  data.writeUInt32BE(maximumBlock, 10);
  return data;
}

/**
 * Undefined if the data is not the {@link encodeBlockSizes} of sizes that the protocol allows. A preferred size that is
 * no power of two is a hint all the same, and rounded down to one: it becomes the disk's physical sector size.
 */
export function decodeBlockSizes(data: Buffer): NbdBlockSizes | undefined {
  if (data.length !== 14) return undefined;
  const [minimumBlock, preferredBlock, maximumBlock] = [2, 6, 10].map((at) => data.readUInt32BE(at));
  const minimumAllowed = minimumBlock <= 65536 && Number.isInteger(Math.log2(minimumBlock));
  if (!minimumAllowed || preferredBlock < minimumBlock || maximumBlock < minimumBlock) return undefined;
  return { minimumBlock, preferredBlock: 2 ** Math.floor(Math.log2(preferredBlock)), maximumBlock };
}
