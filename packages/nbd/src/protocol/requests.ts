/** Layouts of the transmission, as both sides write and read them. All fields are big-endian. */
import { NbdChunk, NbdChunkFlag, NbdMagic } from './numbers.js';

/** Bytes of a request before its data: magic, flags, command, cookie, offset, length. */
export const NBD_REQUEST_BYTES = 28;
/** Bytes of a simple reply before its data: magic, error, cookie. */
export const NBD_SIMPLE_REPLY_BYTES = 16;
/** Bytes of a structured reply's chunk before its payload: magic, flags, type, cookie, length. */
export const NBD_CHUNK_BYTES = 20;
/** Bytes of a range in a chunk of block status: length, flags. */
const EXTENT_BYTES = 8;
const MAX_MESSAGE_BYTES = 1024;

/** One request of the transmission phase. */
export interface NbdRequest {
  /** An `NbdCommand`; from a client any 16-bit number. */
  readonly command: number;
  /** Command flags: bits of `NbdCommandFlag`; from a client any 16 bits. */
  readonly flags: number;
  /** Bytes from the start of the export; 0 for FLUSH and DISC. */
  readonly offset: number;
  /** Bytes of the range, 32 bits wide; for READ and WRITE those of the data too. 0 for FLUSH and DISC. */
  readonly length: number;
}

/** Writes a request to `target[at..]`. A client's own cookies are 32 bits wide. */
export function encodeRequest(target: Buffer, at: number, cookie: number, request: NbdRequest): void {
  target.writeUInt32BE(NbdMagic.request, at);
  target.writeUInt16BE(request.flags, at + 4);
  target.writeUInt16BE(request.command, at + 6);
  target.writeUInt32BE(0, at + 8);
  target.writeUInt32BE(cookie, at + 12);
  writeOffset(target, at + 16, request.offset);
  target.writeUInt32BE(request.length, at + 24);
}

/** A request with the 8 bytes of its cookie; undefined if the bytes are none. Offsets from 2^53 on are rounded. */
export function decodeRequest(header: Buffer): (NbdRequest & { readonly cookie: Buffer }) | undefined {
  if (header.readUInt32BE(0) !== NbdMagic.request) return undefined;
  return {
    flags: header.readUInt16BE(4),
    command: header.readUInt16BE(6),
    cookie: header.subarray(8, 16),
    offset: header.readUInt32BE(16) * 2 ** 32 + header.readUInt32BE(20),
    length: header.readUInt32BE(24),
  };
}

/** A simple reply's header; the data of a READ follows it. */
export function encodeSimpleReply(cookie: Uint8Array, errno: number): Buffer {
  const reply = Buffer.allocUnsafe(NBD_SIMPLE_REPLY_BYTES);
  reply.writeUInt32BE(NbdMagic.simpleReply, 0);
  reply.writeUInt32BE(errno, 4);
  reply.set(cookie, 8);
  return reply;
}

/** The cookie and the NBD errno, 0 for success, of a simple reply; undefined if the bytes are none. */
export function decodeSimpleReply(bytes: Buffer): { cookie: number; errno: number } | undefined {
  if (bytes.readUInt32BE(0) !== NbdMagic.simpleReply) return undefined;
  return { errno: bytes.readUInt32BE(4), cookie: bytes.readUInt32BE(8) * 2 ** 32 + bytes.readUInt32BE(12) };
}

/** The only chunk of a successful structured READ, before its data. */
export function encodeDataChunk(cookie: Uint8Array, offset: number, length: number): Buffer {
  const reply = encodeChunk(cookie, NbdChunk.offsetData, 8 + length, 8);
  writeOffset(reply, NBD_CHUNK_BYTES, offset);
  return reply;
}

/** The only chunk of a failed structured READ. */
export function encodeErrorChunk(cookie: Uint8Array, errno: number, message: string): Buffer {
  const text = Buffer.from(message).subarray(0, MAX_MESSAGE_BYTES);
  const reply = encodeChunk(cookie, NbdChunk.error, 6 + text.length);
  reply.writeUInt32BE(errno, NBD_CHUNK_BYTES);
  reply.writeUInt16BE(text.length, NBD_CHUNK_BYTES + 4);
  reply.set(text, NBD_CHUNK_BYTES + 6);
  return reply;
}

/** A range as a meta context tells of it. */
export interface NbdExtent {
  /** Bytes. */
  readonly length: number;
  /** What that context has to say of it, in 32 bits: of `base:allocation` bits of `NbdState`. */
  readonly flags: number;
}

/** What one context says in answer to a BLOCK_STATUS; `isLast`: it is the last one. */
export function encodeStatusChunk(
  cookie: Uint8Array,
  context: number,
  { extents, isLast }: { readonly extents: readonly NbdExtent[]; readonly isLast: boolean },
): Buffer {
  const reply = encodeChunk(cookie, NbdChunk.blockStatus, 4 + EXTENT_BYTES * extents.length);
  reply.writeUInt16BE(isLast ? NbdChunkFlag.done : 0, 4);
  reply.writeUInt32BE(context, NBD_CHUNK_BYTES);
  for (const [i, { length, flags }] of extents.entries()) {
    const at = NBD_CHUNK_BYTES + 4 + EXTENT_BYTES * i;
    reply.writeUInt32BE(length, at);
    reply.writeUInt32BE(flags, at + 4);
  }
  return reply;
}

/** What a chunk begins with; undefined if it is none. */
export function decodeChunk(
  header: Buffer,
): { isLast: boolean; type: number; cookie: number; length: number } | undefined {
  if (header.readUInt32BE(0) !== NbdMagic.structuredReply) return undefined;
  const isLast = (header.readUInt16BE(4) & NbdChunkFlag.done) !== 0;
  const cookie = header.readUInt32BE(8) * 2 ** 32 + header.readUInt32BE(12);
  return { isLast, type: header.readUInt16BE(6), cookie, length: header.readUInt32BE(16) };
}

/** The payload of an {@link encodeStatusChunk}; undefined if it is none. */
export function decodeStatus(payload: Buffer): { context: number; extents: NbdExtent[] } | undefined {
  const count = (payload.length - 4) / EXTENT_BYTES;
  if (count < 1 || !Number.isInteger(count)) return undefined;
  const extents = Array.from({ length: count }, (_, i) => {
    const at = 4 + EXTENT_BYTES * i;
    return { length: payload.readUInt32BE(at), flags: payload.readUInt32BE(at + 4) };
  });
  return { context: payload.readUInt32BE(0), extents };
}

/** A chunk's header for `length` bytes of payload, with room for the first `bytesHere` of them. */
function encodeChunk(cookie: Uint8Array, type: number, length: number, bytesHere = length): Buffer {
  const reply = Buffer.allocUnsafe(NBD_CHUNK_BYTES + bytesHere);
  reply.writeUInt32BE(NbdMagic.structuredReply, 0);
  reply.writeUInt16BE(NbdChunkFlag.done, 4);
  reply.writeUInt16BE(type, 6);
  reply.set(cookie, 8);
  reply.writeUInt32BE(length, 16);
  return reply;
}

function writeOffset(target: Buffer, at: number, offset: number): void {
  target.writeUInt32BE(Math.floor(offset / 2 ** 32), at);
  target.writeUInt32BE(offset % 2 ** 32, at + 4);
}
