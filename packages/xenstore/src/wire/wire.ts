import { quoted, XenstoreError } from '../errors.js';

/** Message types (enum xsd_sockmsg_type of public/io/xs_wire.h). 20 was removed from the protocol. */
export const XsOp = {
  control: 0,
  directory: 1,
  read: 2,
  getPermissions: 3,
  watch: 4,
  unwatch: 5,
  transactionStart: 6,
  transactionEnd: 7,
  introduce: 8,
  release: 9,
  getDomainPath: 10,
  write: 11,
  mkdir: 12,
  remove: 13,
  setPermissions: 14,
  watchEvent: 15,
  error: 16,
  isDomainIntroduced: 17,
  resume: 18,
  setTarget: 19,
  resetWatches: 21,
  directoryPart: 22,
  getFeature: 23,
  setFeature: 24,
  getQuota: 25,
  setQuota: 26,
} as const;

/** The name of a message type: `read`. */
export type XsOpName = keyof typeof XsOp;

/** The name of a message type as errors spell it; `op 99` for an unknown one. */
export function xsOpName(type: number): string {
  return OP_NAMES[type] ?? `op ${type}`;
}

const OP_NAMES: string[] = [];
for (const [name, type] of Object.entries(XsOp)) OP_NAMES[type] = name;

/** Error names that a daemon may send, in the order of xsd_errors of xs_wire.h. */
export const XS_ERROR_NAMES = [
  'EINVAL',
  'EACCES',
  'EEXIST',
  'EISDIR',
  'ENOENT',
  'ENOMEM',
  'ENOSPC',
  'EIO',
  'ENOTEMPTY',
  'ENOSYS',
  'EROFS',
  'EBUSY',
  'EAGAIN',
  'EISCONN',
  'E2BIG',
  'EPERM',
] as const;

/** Bytes of a header: type, request id, transaction id and payload length, each u32, little-endian. */
export const XS_HEADER_BYTES = 16;
/** XENSTORE_PAYLOAD_MAX: the longest payload of a request in bytes. */
export const XS_MAX_PAYLOAD = 4096;
/** XENSTORE_ABS_PATH_MAX: the longest path that begins with a slash, in bytes. */
export const XS_MAX_ABSOLUTE_PATH = 3072;
/** XENSTORE_REL_PATH_MAX: the longest path that is relative to the domain's home, in bytes. */
export const XS_MAX_RELATIVE_PATH = 2048;

/** One message, in either direction. */
export interface XsMessage {
  /** A value of {@link XsOp}, or one that this version does not know. */
  readonly type: number;
  readonly requestId: number;
  readonly transactionId: number;
  /** May share the memory of the chunk that it arrived in. */
  readonly payload: Uint8Array;
}

/** Encodes a message: header and payload in a new array. Numbers are u32. Checks no limits. */
export function encodeMessage(
  type: number,
  requestId: number,
  transactionId: number,
  payload: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const message = allocateMessage(type, requestId, transactionId, payload.length);
  message.set(payload, XS_HEADER_BYTES);
  return message;
}

/** A message with its header written and `length` bytes of payload still to be filled. */
export function allocateMessage(
  type: number,
  requestId: number,
  transactionId: number,
  length: number,
): Buffer<ArrayBuffer> {
  const message = Buffer.allocUnsafe(XS_HEADER_BYTES + length);
  message.writeUInt32LE(type, 0);
  message.writeUInt32LE(requestId, 4);
  message.writeUInt32LE(transactionId, 8);
  message.writeUInt32LE(length, 12);
  return message;
}

/** Strings, each followed by a NUL, as most payloads are made. */
export function encodeStrings(...strings: readonly string[]): Uint8Array<ArrayBuffer> {
  return Buffer.from(strings.length === 0 ? '' : `${strings.join('\0')}\0`, 'utf8');
}

/** Splits a payload at its NULs. What follows the last NUL counts only when it is not empty. */
export function decodeStrings(payload: Uint8Array): string[] {
  const parts = decodeText(payload).split('\0');
  if (parts.at(-1) === '') parts.pop();
  return parts;
}

/** A payload as text (UTF-8; wrong bytes become U+FFFD). */
export function decodeText(payload: Uint8Array): string {
  return asBuffer(payload).toString('utf8');
}

/** The decimal number that a payload is. Throws {@link XenstoreError} `ERR_PROTOCOL` when it is something else. */
export function decodeNumber(payload: Uint8Array): number {
  const [text = ''] = decodeStrings(payload);
  if (/^[0-9]{1,10}$/.test(text)) return Number(text);
  throw new XenstoreError('ERR_PROTOCOL', 'receive', `${quoted(text)} is no number`);
}

/** Reads replies that say no more than "done". */
export function nothing(): void {}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Cuts a byte stream into messages, however it is chunked.
 *
 * `maxPayload` bounds the length that a header may claim: {@link XS_MAX_PAYLOAD} for requests. Replies of oxenstored
 * may be longer than the protocol says (a directory of many children), so that a client allows more.
 */
export class MessageDecoder {
  readonly #maxPayload: number;
  /** What arrived of an unfinished message, and how many bytes are needed before looking again. */
  #parts: Uint8Array[] = [];
  #buffered = 0;
  #needed = XS_HEADER_BYTES;

  constructor(maxPayload: number = XS_MAX_PAYLOAD) {
    this.#maxPayload = maxPayload;
  }

  /** Bytes of an unfinished message that wait for the rest. */
  get buffered(): number {
    return this.#buffered;
  }

  /**
   * Takes a chunk, which must not be changed afterwards, and returns the messages that it completes.
   * Throws {@link XenstoreError} `ERR_PROTOCOL` when a header claims too long a payload; the stream is then lost.
   */
  push(chunk: Uint8Array): XsMessage[] {
    const messages: XsMessage[] = [];
    let bytes = chunk;
    if (this.#buffered > 0) {
      this.#keep(chunk);
      if (this.#buffered < this.#needed) return messages;
      bytes = Buffer.concat(this.#parts, this.#buffered);
      this.#parts = [];
      this.#buffered = 0;
    }
    const rest = this.#decode(bytes, messages);
    if (rest < bytes.length) this.#keep(bytes.subarray(rest));
    return messages;
  }

  #keep(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#buffered += bytes.length;
  }

  /** Decodes all whole messages; returns where the unfinished one begins, with `#needed` set for it. */
  #decode(bytes: Uint8Array, messages: XsMessage[]): number {
    let at = 0;
    for (;;) {
      if (bytes.length - at < XS_HEADER_BYTES) {
        this.#needed = XS_HEADER_BYTES;
        return at;
      }
      const length = readU32(bytes, at + 12);
      if (length > this.#maxPayload) throw tooLong(length, this.#maxPayload);
      const end = at + XS_HEADER_BYTES + length;
      if (bytes.length < end) {
        this.#needed = XS_HEADER_BYTES + length;
        return at;
      }
      messages.push({
        type: readU32(bytes, at),
        requestId: readU32(bytes, at + 4),
        transactionId: readU32(bytes, at + 8),
        payload: bytes.subarray(at + XS_HEADER_BYTES, end),
      });
      at = end;
    }
  }
}

function tooLong(length: number, maximum: number): XenstoreError {
  const message = `a header claims ${length} bytes of payload, at most ${maximum} are allowed`;
  return new XenstoreError('ERR_PROTOCOL', 'receive', message);
}

function readU32(bytes: Uint8Array, at: number): number {
  return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
}
