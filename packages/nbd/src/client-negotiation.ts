/**
 * The client's part of the fixed newstyle negotiation (doc/proto.md of the NetworkBlockDevice project), without I/O:
 * the bytes come from whoever owns the socket. A server is not trusted: what it says about the export is checked here,
 * what it may say is bounded in length and in number, and anything else ends the negotiation. Structured replies are
 * asked for with meta contexts only: all other clients read simple replies.
 */
import type { Speaker } from './conversation.js';
import { NbdError } from './errors.js';
import { decodeContext, encodeContextRequest } from './protocol/contexts.js';
import {
  NBD_MAX_REQUEST,
  NBD_MAX_STRING,
  NbdHandshake,
  NbdInfo,
  NbdOption,
  NbdOptionReply,
} from './protocol/numbers.js';
import {
  decodeBlockSizes,
  decodeExportInfo,
  decodeGreeting,
  decodeOptionReply,
  encodeClientFlags,
  encodeInfoRequest,
  encodeOption,
  NBD_GREETING_BYTES,
  NBD_OPTION_REPLY_BYTES,
  type NbdBlockSizes,
} from './protocol/options.js';

/** Longer replies to an option make no sense. */
const MAX_REPLY_BYTES = 1 << 16;
/** More replies to one option make no sense: there are fewer kinds of information. */
const MAX_REPLIES = 64;
const NO_DATA = Buffer.alloc(0);

/** What a server says about an export. */
export interface NbdExport extends NbdBlockSizes {
  /** Bytes. */
  readonly size: number;
  /** The transmission flags as the server sent them: bits of `NbdFlag`, and maybe others. */
  readonly flags: number;
}

/** The protocol's own sizes, where the server says nothing of its. */
const DEFAULT_SIZES: NbdBlockSizes = { minimumBlock: 1, preferredBlock: 4096, maximumBlock: NBD_MAX_REQUEST };

/**
 * The client's part of the fixed newstyle negotiation: yields how many bytes it needs next, and is given them; calls
 * `send` with what it has to say. Returns the export. After {@link negotiateTls} the server has `greeted`. Throws
 * NbdError: ERR_PROTOCOL, ERR_REFUSED.
 */
export function* negotiateExport(
  exportName: string,
  send: (bytes: Buffer) => void,
  { greeted = false }: { readonly greeted?: boolean | undefined } = {},
): Speaker<NbdExport> {
  if (!greeted) yield* greet(send);
  send(encodeOption(NbdOption.go, encodeInfoRequest(exportName, [NbdInfo.blockSize])));
  let found: Partial<NbdExport> = {};
  for (let replies = 0; replies < MAX_REPLIES; replies++) {
    const { type, data } = yield* readReply(NbdOption.go);
    if (type >= NbdOptionReply.error) throw refused(`the export ${JSON.stringify(exportName)}`, type, data);
    if (type === NbdOptionReply.ack) return complete(found);
    if (type !== NbdOptionReply.info) throw broken(`its reply is of type ${type}`);
    found = { ...found, ...readInfo(data) };
  }
  throw broken('its replies do not end');
}

/**
 * The same for a client that asks for block status: all `contexts`, which it gets by the numbers that the server gives them. Throws
 * besides: ERR_REFUSED, the server has not all of them.
 */
export function* negotiateStatus(
  exportName: string,
  contexts: readonly string[],
  send: (bytes: Buffer) => void,
): Speaker<ReadonlyMap<number, string>> {
  yield* greet(send);
  send(encodeOption(NbdOption.structuredReply, NO_DATA));
  yield* readAck(NbdOption.structuredReply, 'structured replies');
  send(encodeOption(NbdOption.setMetaContext, encodeContextRequest({ name: exportName, queries: contexts })));
  const found = new Map<number, string>();
  for (;;) {
    const { type, data } = yield* readReply(NbdOption.setMetaContext);
    if (type >= NbdOptionReply.error) throw refused('block status', type, data);
    if (type === NbdOptionReply.ack) break;
    const context = type === NbdOptionReply.metaContext ? decodeContext(data) : undefined;
    if (!context || !contexts.includes(context.name)) throw broken('it names a context that was not asked for');
    if (found.has(context.id)) throw broken('two of its contexts have one number');
    found.set(context.id, context.name);
  }
  const missing = contexts.find((name) => ![...found.values()].includes(name));
  if (missing !== undefined) throw new NbdError('ERR_REFUSED', 'negotiate', `it has no context ${missing}`);
  yield* negotiateExport(exportName, send, { greeted: true });
  return found;
}

/**
 * The beginning of a negotiation whose rest is encrypted: when it returns the server waits for the client's first bytes
 * of TLS. What the server has sent besides is nothing that it said, and must not be believed. Throws as
 * {@link negotiateExport}.
 */
export function* negotiateTls(send: (bytes: Buffer) => void): Speaker<true> {
  yield* greet(send);
  send(encodeOption(NbdOption.startTls, NO_DATA));
  yield* readAck(NbdOption.startTls, 'TLS');
  return true;
}

function* readAck(option: number, what: string): Speaker<void> {
  const { type, data } = yield* readReply(option);
  if (type >= NbdOptionReply.error) throw refused(what, type, data);
  if (type !== NbdOptionReply.ack) throw broken(`its reply is of type ${type}`);
}

function* greet(send: (bytes: Buffer) => void): Speaker<void> {
  const offered = decodeGreeting(yield NBD_GREETING_BYTES);
  if (offered === undefined) throw broken('it does not greet as NBD does');
  if ((offered & NbdHandshake.fixedNewstyle) === 0) throw broken('it does not know the fixed newstyle negotiation');
  send(encodeClientFlags(NbdHandshake.fixedNewstyle | (offered & NbdHandshake.noZeroes)));
}

function* readReply(asked: number): Speaker<{ readonly type: number; readonly data: Buffer }> {
  const reply = decodeOptionReply(yield NBD_OPTION_REPLY_BYTES);
  if (!reply) throw broken('its reply is not one of NBD');
  if (reply.option !== asked) throw broken('its reply is to another option');
  if (reply.length > MAX_REPLY_BYTES) throw broken('its reply is too long');
  return { type: reply.type, data: reply.length > 0 ? yield reply.length : NO_DATA };
}

/** What one INFO reply says; nothing if it is about something that a client need not know. */
function readInfo(data: Buffer): Partial<NbdExport> {
  if (data.length < 2) throw broken('its information has no type');
  const type = data.readUInt16BE(0);
  if (type !== NbdInfo.export && type !== NbdInfo.blockSize) return {};
  const info = type === NbdInfo.export ? decodeExportInfo(data) : decodeBlockSizes(data);
  if (!info) throw broken(`its information of type ${type} is invalid`);
  return info;
}

function complete({ size, flags, ...sizes }: Partial<NbdExport>): NbdExport {
  if (size === undefined || flags === undefined) throw broken('it does not say how large the export is');
  return { size, flags, ...DEFAULT_SIZES, ...sizes };
}

function broken(message: string): NbdError {
  return new NbdError('ERR_PROTOCOL', 'negotiate', message);
}

function refused(what: string, type: number, data: Buffer): NbdError {
  const reason = data.toString('utf8', 0, NBD_MAX_STRING) || `error ${type - NbdOptionReply.error}`;
  return new NbdError('ERR_REFUSED', 'negotiate', `it refuses ${what}: ${reason}`);
}
