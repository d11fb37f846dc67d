import type { Socket } from 'node:net';
import type { NbdContext, NbdDisk } from '../disk.js';
import { NbdError } from '../errors.js';
import { decodeContextRequest, encodeContext } from '../protocol/contexts.js';
import { NBD_MAX_REQUEST, NbdFlag, NbdHandshake, NbdInfo, NbdOption, NbdOptionReply } from '../protocol/numbers.js';
import {
  decodeInfoRequest,
  decodeOption,
  encodeBlockSizes,
  encodeDescription,
  encodeExport,
  encodeExportInfo,
  encodeGreeting,
  encodeListEntry,
  encodeOptionReply,
  NBD_CLIENT_FLAGS_BYTES,
  NBD_OPTION_BYTES,
} from '../protocol/options.js';
import type { SocketReader } from '../reader.js';
import { contextsFor } from './contexts.js';

/** The longest option that is read; names are at most 4096 bytes. */
const MAX_OPTION_BYTES = 8192;
const PREFERRED_BLOCK_BYTES = 4096;
/** Zeroes after the answer to EXPORT_NAME, unless the client can do without. */
const EXPORT_NAME_ZEROES = 124;

/** What client and server agreed on. */
export interface NbdSession {
  readonly disk: NbdDisk;
  readonly structuredReplies: boolean;
  /** Meta contexts, by the numbers that they have in this connection: their places. */
  readonly contexts: readonly NbdContext[];
}

/** What a client may choose. */
export interface NbdExport {
  readonly disk: NbdDisk;
  /** For people. */
  readonly description?: string | undefined;
}

/** What a client may choose from. */
export interface NbdOffer {
  /** By name. */
  readonly exports: ReadonlyMap<string, NbdExport>;
  /** Whether the empty name asks for the first one. */
  readonly hasDefault: boolean;
}

interface Negotiation {
  readonly socket: Socket;
  readonly offer: NbdOffer;
  noZeroes: boolean;
  structuredReplies: boolean;
  /** Of which disk the client wants to be told what, since it said so last. */
  chosen: { readonly disk: NbdDisk; readonly contexts: readonly NbdContext[] } | undefined;
}

/**
 * The fixed newstyle negotiation, from the greeting until the client has chosen an export. Resolves with undefined
 * when the client is done without one; rejects with NbdError: ERR_ENDED, ERR_PROTOCOL, ERR_REFUSED.
 */
export async function negotiate(
  socket: Socket,
  reader: SocketReader,
  offer: NbdOffer,
): Promise<NbdSession | undefined> {
  const state: Negotiation = { socket, offer, noZeroes: false, structuredReplies: false, chosen: undefined };
  await greet(state, reader);
  for (;;) {
    await reader.untilTaken();
    const found = decodeOption(await reader.read(NBD_OPTION_BYTES));
    if (!found) throw new NbdError('ERR_PROTOCOL', 'negotiate', 'not an NBD option');
    const { option, length } = found;
    if (length > MAX_OPTION_BYTES) {
      await reader.skip(length);
      reply(state, option, NbdOptionReply.tooBig);
      continue;
    }
    const data = await reader.read(length);
    if (option === NbdOption.abort) {
      reply(state, option, NbdOptionReply.ack);
      return undefined;
    }
    const disk = answerOption(state, option, data);
    const { structuredReplies, chosen } = state;
    // What was chosen for one export does not hold for another.
    if (disk) return { disk, structuredReplies, contexts: chosen?.disk === disk ? chosen.contexts : [] };
  }
}

async function greet(state: Negotiation, reader: SocketReader): Promise<void> {
  const known = NbdHandshake.fixedNewstyle | NbdHandshake.noZeroes;
  state.socket.write(encodeGreeting(known));
  const flags = (await reader.read(NBD_CLIENT_FLAGS_BYTES)).readUInt32BE(0);
  if ((flags & ~known) !== 0) throw new NbdError('ERR_PROTOCOL', 'negotiate', 'unknown client flags');
  state.noZeroes = (flags & NbdHandshake.noZeroes) !== 0;
}

/** Answers one option; the disk ends the negotiation. */
function answerOption(state: Negotiation, option: number, data: Buffer): NbdDisk | undefined {
  switch (option) {
    case NbdOption.exportName:
      return answerExportName(state, data);
    case NbdOption.list:
      answerList(state, data);
      return undefined;
    case NbdOption.structuredReply:
      if (data.length === 0) state.structuredReplies = true;
      reply(state, option, data.length === 0 ? NbdOptionReply.ack : NbdOptionReply.invalid);
      return undefined;
    case NbdOption.listMetaContext:
    case NbdOption.setMetaContext:
      answerContexts(state, option, data);
      return undefined;
    case NbdOption.info:
    case NbdOption.go:
      return answerInfo(state, option, data);
    default:
      reply(state, option, NbdOptionReply.unsupported);
      return undefined;
  }
}

function reply(state: Negotiation, option: number, type: number, data?: Uint8Array): void {
  state.socket.write(encodeOptionReply(option, type, data));
}

function findExport({ offer: { exports, hasDefault } }: Negotiation, name: string): NbdExport | undefined {
  return name === '' && hasDefault ? exports.values().next().value : exports.get(name);
}

function answerExportName(state: Negotiation, data: Buffer): NbdDisk {
  const disk = findExport(state, data.toString())?.disk;
  // The option has no way to say no.
  if (!disk) throw new NbdError('ERR_REFUSED', 'negotiate', 'no such export');
  state.socket.write(encodeExport(disk.size, transmissionFlags(state, disk)));
  if (!state.noZeroes) state.socket.write(Buffer.alloc(EXPORT_NAME_ZEROES));
  return disk;
}

function answerList(state: Negotiation, data: Buffer): void {
  if (data.length > 0) {
    reply(state, NbdOption.list, NbdOptionReply.invalid);
    return;
  }
  for (const [name, { description }] of state.offer.exports) {
    reply(state, NbdOption.list, NbdOptionReply.server, encodeListEntry(name, description));
  }
  reply(state, NbdOption.list, NbdOptionReply.ack);
}

function answerContexts(state: Negotiation, option: number, data: Buffer): void {
  const purpose = option === NbdOption.setMetaContext ? 'set' : 'list';
  if (purpose === 'set') state.chosen = undefined;
  const request = state.structuredReplies ? decodeContextRequest(data) : undefined;
  if (request === undefined) {
    reply(state, option, NbdOptionReply.invalid);
    return;
  }
  const disk = findExport(state, request.name)?.disk;
  if (!disk) {
    reply(state, option, NbdOptionReply.unknown, noExport(request.name));
    return;
  }
  const contexts = contextsFor(disk, request.queries, purpose);
  if (purpose === 'set') state.chosen = { disk, contexts };
  for (const [id, { name }] of contexts.entries()) {
    // In a list they have no numbers.
    reply(state, option, NbdOptionReply.metaContext, encodeContext(purpose === 'set' ? id : 0, name));
  }
  reply(state, option, NbdOptionReply.ack);
}

function answerInfo(state: Negotiation, option: number, data: Buffer): NbdDisk | undefined {
  const request = decodeInfoRequest(data);
  if (request === undefined) {
    reply(state, option, NbdOptionReply.invalid);
    return undefined;
  }
  const { name, wanted } = request;
  const found = findExport(state, name);
  if (!found) {
    reply(state, option, NbdOptionReply.unknown, noExport(name));
    return undefined;
  }
  const { disk, description } = found;
  const minimumBlock = disk.blockSize;
  const preferredBlock = Math.max(minimumBlock, PREFERRED_BLOCK_BYTES);
  const sizes = { minimumBlock, preferredBlock, maximumBlock: NBD_MAX_REQUEST };
  reply(state, option, NbdOptionReply.info, encodeExportInfo(disk.size, transmissionFlags(state, disk)));
  reply(state, option, NbdOptionReply.info, encodeBlockSizes(sizes));
  if (description !== undefined && wanted.includes(NbdInfo.description)) {
    reply(state, option, NbdOptionReply.info, encodeDescription(description));
  }
  reply(state, option, NbdOptionReply.ack);
  return option === NbdOption.go ? disk : undefined;
}

/** Every connection drives the same disk, so that a flush on one covers the others: multi-conn holds. */
function transmissionFlags(state: Negotiation, disk: NbdDisk): number {
  let flags = NbdFlag.hasFlags | NbdFlag.sendFlush | NbdFlag.canMultiConn;
  // A read is always one chunk.
  if (state.structuredReplies) flags |= NbdFlag.sendDf;
  if (disk.readOnly) return flags | NbdFlag.readOnly;
  flags |= NbdFlag.sendFua | NbdFlag.sendWriteZeroes;
  return disk.discard ? flags | NbdFlag.sendTrim : flags;
}

function noExport(name: string): Buffer {
  return Buffer.from(`no export "${name}"`);
}
