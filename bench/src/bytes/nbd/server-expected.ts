/** A reader of its own of what a client of NBD says: it knows the protocol and nothing of the server. */

/** The disk that is served. */
export const EXPORT = { name: 'disk', bytes: 64 * 1024, block: 512, filler: 7 } as const;
/** What the disk tells of: its first block has the place of the context here for its flags, the others one more. */
export const CONTEXTS = ['base:allocation', 'qemu:dirty-bitmap:daily'] as const;

/** Whether an answer is at a place of what the server says: its length, or undefined. */
type Answer = (said: Buffer, at: number) => number | undefined;

/** What must come of what a client says. */
export interface Expected {
  /** The greeting, and the answers to options, in their order. */
  readonly negotiation: readonly Answer[];
  /** The answers to requests, in any order. */
  readonly requests: readonly Answer[];
  /** Of the disk at the end. */
  readonly data: Buffer;
}

const OPTION = Buffer.from('IHAVEOPT');
const GREETING = Buffer.concat([Buffer.from('NBDMAGIC'), OPTION, Buffer.of(0, 3)]);
const REPLY = Buffer.from('0003e889045565a9', 'hex');
const Option = { exportName: 1, abort: 2, list: 3, info: 6, go: 7, structured: 8, listContexts: 9, setContexts: 10 };
const Reply = {
  ack: 1,
  server: 2,
  info: 3,
  context: 4,
  unsupported: 2 ** 31 + 1,
  invalid: 2 ** 31 + 3,
  unknown: 2 ** 31 + 6,
};
const TOO_BIG = 2 ** 31 + 9;
const MOST_OPTION_BYTES = 8192;
const MOST_NAME_BYTES = 4096;
const REQUEST = 0x25609513;
const REQUEST_BYTES = 28;
const MOST_BYTES = 32 << 20;
const Command = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, writeZeroes: 6, status: 7 };
const DF = 4;
const REQ_ONE = 8;
/** By command. */
const FLAGS = new Map([
  [Command.read, 1 | DF],
  [Command.write, 1],
  [Command.flush, 1],
  [Command.trim, 1],
  [Command.writeZeroes, 1 | 2],
  [Command.status, REQ_ONE],
]);
const EINVAL = 22;
const ENOSPC = 28;

/** The words of a client that has said all that it will say. */
class Words {
  #at = 0;

  constructor(readonly bytes: Buffer) {}

  /** Undefined: it has not said so many. */
  take(length: number): Buffer | undefined {
    if (this.#at + length > this.bytes.length) return undefined;
    this.#at += length;
    return this.bytes.subarray(this.#at - length, this.#at);
  }
}

export function expectedOf(bytes: Buffer): Expected {
  const words = new Words(bytes);
  const negotiation: Answer[] = [exactly(GREETING)];
  const requests: Answer[] = [];
  const data = Buffer.alloc(EXPORT.bytes, EXPORT.filler);
  const agreed = negotiate(words, negotiation);
  if (agreed) while (request(words, requests, data, agreed));
  return { negotiation, requests, data };
}

/** Says what is wrong with the server's words, or undefined. */
export function remarks(said: Buffer, { negotiation, requests }: Expected): string | undefined {
  let at = 0;
  for (const [i, answer] of negotiation.entries()) {
    const length = answer(said, at);
    if (length === undefined) return `answer ${i} of the negotiation is not ${hex(said, at)}`;
    at += length;
  }
  const open = [...requests];
  while (at < said.length) {
    // The longest: a reply without data is the beginning of one with data.
    const lengths = open.map((answer) => answer(said, at) ?? 0);
    const length = Math.max(0, ...lengths);
    if (length === 0) return `nothing is to be answered with ${hex(said, at)}`;
    open.splice(lengths.indexOf(length), 1);
    at += length;
  }
  return open.length > 0 ? `${open.length} requests have no answer` : undefined;
}

function hex(said: Buffer, at: number): string {
  return said.toString('hex', at, at + 40);
}

/** What a client and the server have agreed on. */
interface Agreed {
  readonly structured: boolean;
  /** Places in {@link CONTEXTS}. */
  readonly contexts: readonly number[];
}

/** What was agreed on when the client has chosen the disk. */
function negotiate(words: Words, answers: Answer[]): Agreed | undefined {
  const clientFlags = words.take(4)?.readUInt32BE(0);
  if (clientFlags === undefined || (clientFlags & ~3) !== 0) return undefined;
  let structured = false;
  let contexts: readonly number[] = [];
  for (;;) {
    const header = words.take(16);
    if (!header?.subarray(0, 8).equals(OPTION)) return undefined;
    const [option, length] = [header.readUInt32BE(8), header.readUInt32BE(12)];
    const reply = (type: number, data?: Buffer) => answers.push(optionReply(option, type, data));
    const data = words.take(length);
    if (!data) return undefined;
    const flags = 0x16d | (structured ? 0x80 : 0);
    if (length > MOST_OPTION_BYTES) {
      reply(TOO_BIG);
    } else if (option === Option.abort) {
      reply(Reply.ack);
      return undefined;
    } else if (option === Option.exportName) {
      if (!isOurs(data.toString())) return undefined;
      answers.push(exactly(Buffer.concat([sizeAndFlags(flags), Buffer.alloc((clientFlags & 2) === 0 ? 124 : 0)])));
      return { structured, contexts };
    } else if (option === Option.list) {
      if (length === 0) reply(Reply.server, Buffer.from(`\0\0\0\x04${EXPORT.name}`));
      reply(length === 0 ? Reply.ack : Reply.invalid);
    } else if (option === Option.structured) {
      if (length === 0) structured = true;
      reply(length === 0 ? Reply.ack : Reply.invalid);
    } else if (option === Option.listContexts || option === Option.setContexts) {
      const sets = option === Option.setContexts;
      if (sets) contexts = [];
      const asked = structured ? contextsOf(data) : undefined;
      if (asked === undefined) reply(Reply.invalid);
      else if (!isOurs(asked.name)) reply(Reply.unknown);
      else {
        const found = [...CONTEXTS.keys()].filter((at) => isAsked(CONTEXTS[at], asked.queries, sets));
        if (sets) contexts = found;
        for (const [id, at] of found.entries()) {
          reply(Reply.context, Buffer.concat([Buffer.of(0, 0, 0, sets ? id : 0), Buffer.from(CONTEXTS[at])]));
        }
        reply(Reply.ack, Buffer.alloc(0));
      }
    } else if (option === Option.info || option === Option.go) {
      const name = nameOf(data);
      if (name === undefined) reply(Reply.invalid);
      else if (!isOurs(name)) reply(Reply.unknown);
      else {
        reply(Reply.info, Buffer.concat([Buffer.of(0, 0), sizeAndFlags(flags)]));
        reply(Reply.info, Buffer.from('0003000002000000100002000000', 'hex'));
        reply(Reply.ack, Buffer.alloc(0));
        if (option === Option.go) return { structured, contexts };
      }
    } else reply(Reply.unsupported);
  }
}

function isOurs(name: string): boolean {
  return name === EXPORT.name || name === '';
}

/** Of INFO and GO. Undefined: it has none. */
function nameOf(data: Buffer): string | undefined {
  if (data.length < 6) return undefined;
  const length = data.readUInt32BE(0);
  if (length > MOST_NAME_BYTES || data.length < 6 + length) return undefined;
  if (data.length !== 6 + length + 2 * data.readUInt16BE(4 + length)) return undefined;
  return data.toString('utf8', 4, 4 + length);
}

/** Of the options of contexts. Undefined: malformed. */
function contextsOf(data: Buffer): { readonly name: string; readonly queries: readonly string[] } | undefined {
  const words = new Words(data);
  const text = () => {
    const length = words.take(4)?.readUInt32BE(0);
    return length === undefined || length > MOST_NAME_BYTES ? undefined : words.take(length)?.toString();
  };
  const name = text();
  const count = name === undefined ? undefined : words.take(4)?.readUInt32BE(0);
  if (name === undefined || count === undefined) return undefined;
  const queries: string[] = [];
  while (queries.length < count) {
    const query = text();
    if (query === undefined) return undefined;
    queries.push(query);
  }
  return words.take(1) ? undefined : { name, queries };
}

/** A list may be of all, or of a namespace. */
function isAsked(context: string, queries: readonly string[], sets: boolean): boolean {
  if (sets) return queries.includes(context);
  const isIn = (query: string) => query === context || (query.at(-1) === ':' && context.startsWith(query));
  return queries.length === 0 || queries.some(isIn);
}

function sizeAndFlags(flags: number): Buffer {
  const bytes = Buffer.alloc(10);
  bytes.writeBigUInt64BE(BigInt(EXPORT.bytes));
  bytes.writeUInt16BE(flags, 8);
  return bytes;
}

/** What an error says in words is the server's business. */
function optionReply(option: number, type: number, data?: Buffer): Answer {
  return (said, at) => {
    if (said.length < at + 20 || !said.subarray(at, at + 8).equals(REPLY)) return undefined;
    const length = said.readUInt32BE(at + 16);
    if (said.readUInt32BE(at + 8) !== option || said.readUInt32BE(at + 12) !== type) return undefined;
    const found = said.subarray(at + 20, at + 20 + length);
    if (found.length < length || (data && !found.equals(data))) return undefined;
    return type < 2 ** 31 && !data && length > 0 ? undefined : 20 + length;
  };
}

/** Takes a request, and does it; false at the end. */
function request(words: Words, answers: Answer[], disk: Buffer, agreed: Agreed): boolean {
  const { structured } = agreed;
  const header = words.take(REQUEST_BYTES);
  if (header?.readUInt32BE(0) !== REQUEST) return false;
  const [flags, command] = [header.readUInt16BE(4), header.readUInt16BE(6)];
  const cookie = header.subarray(8, 16);
  const [offset, length] = [header.readBigUInt64BE(16), header.readUInt32BE(24)];
  if (command === Command.disconnect) return false;
  const data = command === Command.write ? words.take(length) : undefined;
  if (command === Command.write && !data) return false;
  const errnos = refusals(command, flags, offset, length, agreed);
  const inChunks = structured && (command === Command.read || command === Command.status);
  if (errnos.length > 0) {
    answers.push(inChunks ? errorChunk(cookie, errnos) : failure(cookie, errnos));
    return true;
  }
  if (command === Command.status) {
    answers.push(exactly(statusChunks(cookie, length, (flags & REQ_ONE) !== 0, agreed.contexts)));
    return true;
  }
  const at = Number(offset);
  if (data) disk.set(data, at);
  if (command === Command.writeZeroes) disk.fill(0, at, at + length);
  const read = command === Command.read ? Buffer.from(disk.subarray(at, at + length)) : Buffer.alloc(0);
  const head = structured && command === Command.read ? dataChunk(header) : simpleReply(cookie, 0);
  answers.push(exactly(Buffer.concat([head, read])));
  return true;
}

/** The errors that a request may have: none, if it is to be done. */
function refusals(command: number, flags: number, offset: bigint, length: number, agreed: Agreed): number[] {
  const known = FLAGS.get(command);
  if (known === undefined || (flags & ~known) !== 0) return [EINVAL];
  if (command === Command.flush) return [];
  const moves = command === Command.read || command === Command.write;
  if (length === 0 || (moves && length > MOST_BYTES)) return [EINVAL];
  if ((flags & DF) !== 0 && command === Command.read && !agreed.structured) return [EINVAL];
  if (command === Command.status && agreed.contexts.length === 0) return [EINVAL];
  const aligned = offset % BigInt(EXPORT.block) === 0n && length % EXPORT.block === 0;
  const inside = offset + BigInt(length) <= EXPORT.bytes;
  if (inside) return aligned ? [] : [EINVAL];
  if (command === Command.read || command === Command.status) return [EINVAL];
  return aligned ? [ENOSPC] : [EINVAL, ENOSPC];
}

function simpleReply(cookie: Buffer, errno: number): Buffer {
  const bytes = Buffer.from('6744669800000000', 'hex');
  bytes.writeUInt32BE(errno, 4);
  return Buffer.concat([bytes, cookie]);
}

function failure(cookie: Buffer, errnos: readonly number[]): Answer {
  const answers = errnos.map((errno) => exactly(simpleReply(cookie, errno)));
  return (said, at) => answers.map((answer) => answer(said, at)).find((length) => length !== undefined);
}

/** Done, with the data of an offset. */
function dataChunk(header: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(header.readUInt32BE(24) + 8);
  return Buffer.concat([
    Buffer.from('668e33ef00010001', 'hex'),
    header.subarray(8, 16),
    length,
    header.subarray(16, 24),
  ]);
}

/** What each context tells of the first block of a range, and of the rest. */
function statusChunks(cookie: Buffer, length: number, isOne: boolean, contexts: readonly number[]): Buffer {
  const chunks = contexts.map((flags, id) => {
    const [first, rest] = [Math.min(EXPORT.block, length), length - EXPORT.block];
    const words = [id, first, flags, ...(rest > 0 && !isOne ? [rest, flags + 1] : [])];
    const bytes = Buffer.alloc(20 + 4 * words.length);
    bytes.writeUInt32BE(0x668e33ef, 0);
    bytes.writeUInt16BE(id === contexts.length - 1 ? 1 : 0, 4);
    bytes.writeUInt16BE(5, 6);
    cookie.copy(bytes, 8);
    bytes.writeUInt32BE(4 * words.length, 16);
    for (const [i, word] of words.entries()) bytes.writeUInt32BE(word, 20 + 4 * i);
    return bytes;
  });
  return Buffer.concat(chunks);
}

function errorChunk(cookie: Buffer, errnos: readonly number[]): Answer {
  const begin = exactly(Buffer.concat([Buffer.from('668e33ef00018001', 'hex'), cookie]));
  return (said, at) => {
    if (begin(said, at) === undefined || said.length < at + 26) return undefined;
    const [length, errno, words] = [said.readUInt32BE(at + 16), said.readUInt32BE(at + 20), said.readUInt16BE(at + 24)];
    return errnos.includes(errno) && length === 6 + words && said.length >= at + 20 + length ? 20 + length : undefined;
  };
}

function exactly(bytes: Buffer): Answer {
  return (said, at) => (bytes.equals(said.subarray(at, at + bytes.length)) ? bytes.length : undefined);
}
