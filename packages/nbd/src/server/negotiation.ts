import type { Socket } from 'node:net';
import type { NbdDisk } from '../disk.js';
import {
  encodeBlockSizes,
  encodeExport,
  encodeOptionReply,
  NBD_MAX_REQUEST,
  NBD_OPTION_BYTES,
  NbdFlag,
  NbdHandshake,
  NbdInfo,
  NbdMagic,
  NbdOption,
  NbdOptionReply,
} from '../protocol.js';
import { ConnectionEnded, type SocketReader } from '../reader.js';

/** The longest option that is read; names are at most 4096 bytes. */
const MAX_OPTION_BYTES = 8192;
const PREFERRED_BLOCK_BYTES = 4096;

/** What client and server agreed on. */
export interface NbdSession {
  readonly disk: NbdDisk;
  readonly structuredReplies: boolean;
}

/** Exports by name; the default export, asked for by the empty name, is the first. */
export type NbdExports = ReadonlyMap<string, NbdDisk>;

interface Negotiation {
  readonly socket: Socket;
  readonly exports: NbdExports;
  noZeroes: boolean;
  structuredReplies: boolean;
}

/**
 * The fixed newstyle negotiation, from the greeting until the client has chosen an export. Resolves with undefined
 * when the client is done without one; rejects with {@link ConnectionEnded}.
 */
export async function negotiate(
  socket: Socket,
  reader: SocketReader,
  exports: NbdExports,
): Promise<NbdSession | undefined> {
  const state: Negotiation = { socket, exports, noZeroes: false, structuredReplies: false };
  await greet(state, reader);
  for (;;) {
    const header = await reader.read(NBD_OPTION_BYTES);
    if (!header.subarray(0, 8).equals(NbdMagic.option)) throw new ConnectionEnded('not an NBD option');
    const option = header.readUInt32BE(8);
    const length = header.readUInt32BE(12);
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
    if (disk) return { disk, structuredReplies: state.structuredReplies };
  }
}

async function greet(state: Negotiation, reader: SocketReader): Promise<void> {
  const greeting = Buffer.alloc(18);
  NbdMagic.greeting.copy(greeting);
  greeting.writeUInt16BE(NbdHandshake.fixedNewstyle | NbdHandshake.noZeroes, 16);
  state.socket.write(greeting);
  const flags = (await reader.read(4)).readUInt32BE(0);
  if ((flags & ~(NbdHandshake.fixedNewstyle | NbdHandshake.noZeroes)) !== 0)
    throw new ConnectionEnded('unknown client flags');
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

function findExport(state: Negotiation, name: string): NbdDisk | undefined {
  return name === '' ? state.exports.values().next().value : state.exports.get(name);
}

function answerExportName(state: Negotiation, data: Buffer): NbdDisk {
  const disk = findExport(state, data.toString());
  // The option has no way to say no.
  if (!disk) throw new ConnectionEnded('no such export');
  state.socket.write(encodeExport(disk.size, transmissionFlags(disk, state.structuredReplies)));
  if (!state.noZeroes) state.socket.write(Buffer.alloc(124));
  return disk;
}

function answerList(state: Negotiation, data: Buffer): void {
  if (data.length > 0) {
    reply(state, NbdOption.list, NbdOptionReply.invalid);
    return;
  }
  for (const name of state.exports.keys()) {
    const text = Buffer.from(name);
    const entry = Buffer.alloc(4 + text.length);
    entry.writeUInt32BE(text.length, 0);
    entry.set(text, 4);
    reply(state, NbdOption.list, NbdOptionReply.server, entry);
  }
  reply(state, NbdOption.list, NbdOptionReply.ack);
}

function answerInfo(state: Negotiation, option: number, data: Buffer): NbdDisk | undefined {
  const name = exportNameOf(data);
  if (name === undefined) {
    reply(state, option, NbdOptionReply.invalid);
    return undefined;
  }
  const disk = findExport(state, name);
  if (!disk) {
    reply(state, option, NbdOptionReply.unknown, Buffer.from(`no export "${name}"`));
    return undefined;
  }
  const type = Buffer.alloc(2);
  type.writeUInt16BE(NbdInfo.export, 0);
  const flags = transmissionFlags(disk, state.structuredReplies);
  reply(state, option, NbdOptionReply.info, Buffer.concat([type, encodeExport(disk.size, flags)]));
  const preferred = Math.max(disk.blockSize, PREFERRED_BLOCK_BYTES);
  reply(state, option, NbdOptionReply.info, encodeBlockSizes(disk.blockSize, preferred, NBD_MAX_REQUEST));
  reply(state, option, NbdOptionReply.ack);
  return option === NbdOption.go ? disk : undefined;
}

/** The name in the data of INFO or GO (length, name, count, count information types); undefined if malformed. */
function exportNameOf(data: Buffer): string | undefined {
  if (data.length < 6) return undefined;
  const length = data.readUInt32BE(0);
  if (length > data.length - 6) return undefined;
  const requests = data.readUInt16BE(4 + length);
  if (data.length !== 6 + length + 2 * requests) return undefined;
  return data.toString('utf8', 4, 4 + length);
}

/** Every connection drives the same disk, so that a flush on one covers the others: multi-conn holds. */
function transmissionFlags(disk: NbdDisk, structuredReplies: boolean): number {
  let flags = NbdFlag.hasFlags | NbdFlag.sendFlush | NbdFlag.canMultiConn;
  // A read is always one chunk.
  if (structuredReplies) flags |= NbdFlag.sendDf;
  if (disk.readOnly) return flags | NbdFlag.readOnly;
  flags |= NbdFlag.sendFua | NbdFlag.sendWriteZeroes;
  return disk.discard ? flags | NbdFlag.sendTrim : flags;
}
