import { quoted, XenstoreError } from '../errors.js';

/** Message types (enum xsd_sockmsg_type of public/io/xs_wire.h). 20 was removed from the protocol. */
export const XsOp = {
  /** XS_CONTROL, formerly XS_DEBUG: a command for the daemon itself. */
  control: 0,
  /** XS_DIRECTORY: the names of the children. */
  directory: 1,
  /** XS_READ: the value, without a NUL behind it. */
  read: 2,
  /** XS_GET_PERMS: a letter and a domid for each entry, the owner's first. */
  getPermissions: 3,
  /** XS_WATCH: path and token, and a depth where the daemon has {@link XenstoreFeature.watchDepth}. */
  watch: 4,
  /** XS_UNWATCH: path and token of the watch. */
  unwatch: 5,
  /** XS_TRANSACTION_START: the reply is the transaction's id in decimal. */
  transactionStart: 6,
  /** XS_TRANSACTION_END: `T` commits, `F` discards. */
  transactionEnd: 7,
  /** XS_INTRODUCE: a new domain, the frame number of its store page, its event channel. */
  introduce: 8,
  /** XS_RELEASE: the daemon is to let go of a domain. */
  release: 9,
  /** XS_GET_DOMAIN_PATH: the home of a domain. */
  getDomainPath: 10,
  /** XS_WRITE: path, NUL, and the value as it is. */
  write: 11,
  /** XS_MKDIR: makes sure that a node is there. */
  mkdir: 12,
  /** XS_RM: removes a node and all below it. */
  remove: 13,
  /** XS_SET_PERMS: path, then entries as in the reply to XS_GET_PERMS. */
  setPermissions: 14,
  /** XS_WATCH_EVENT, only from the daemon, and no reply: path and token. */
  watchEvent: 15,
  /** XS_ERROR, only as a reply: the name of an errno. */
  error: 16,
  /** XS_IS_DOMAIN_INTRODUCED: the reply is `T` or `F`. */
  isDomainIntroduced: 17,
  /** XS_RESUME: the end of a domain that lives again is to be told once more. */
  resume: 18,
  /** XS_SET_TARGET: a domain gets the rights of another. */
  setTarget: 19,
  /** XS_RESET_WATCHES: ends all watches and transactions of the connection. */
  resetWatches: 21,
  /** XS_DIRECTORY_PART: names of children from a byte offset on, behind the node's generation count. */
  directoryPart: 22,
  /** XS_GET_FEATURE, since Xen 4.21: {@link XenstoreFeature} bits in decimal, of the daemon or of a domain. */
  getFeature: 23,
  /** XS_SET_FEATURE, since Xen 4.21: a domain and the bits that it is shown. */
  setFeature: 24,
  /** XS_GET_QUOTA, since Xen 4.21: names of all quotas, or the value of one, for a domain or for new domains. */
  getQuota: 25,
  /** XS_SET_QUOTA, since Xen 4.21: name and value, behind a domid if it is for one domain. */
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
  /** `req_id`, a u32: chosen by the client and copied into the reply; 0 in a watch event. */
  readonly requestId: number;
  /** `tx_id`, a u32: the daemon's number of the transaction; 0 outside of one. */
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
