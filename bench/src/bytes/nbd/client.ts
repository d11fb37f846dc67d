import type { NbdExport } from '@xenpv/nbd';
import * as nbd from '@xenpv/nbd';
import { cut } from '../mutate.js';
import { mustHold, type Target } from '../target.js';

/** The parts of the package that are fuzzed. */
type Nbd = Pick<typeof nbd, 'Conversation' | 'NbdError' | 'negotiateExport'>;

/** What a negotiation came to: an export, or the error with which it was given up; neither when it wants more. */
interface Outcome {
  readonly export?: NbdExport;
  readonly refused?: string;
  readonly message?: string;
}

const MAGIC = Buffer.from('NBDMAGICIHAVEOPT');
const REPLY_MAGIC = 0x3e889045565a9n;
const GO = 7;
const MOST_REPLIES = 64;
const MOST_REPLY_BYTES = 65536;
const BROKEN: Outcome = { refused: 'ERR_PROTOCOL' };
const WANTS_MORE: Outcome = {};

/**
 * A client with a server of no goodwill: however its bytes are cut, it comes to one end, the one that a reader of its own
 * comes to; it believes no impossible size, and says little.
 */
export function nbdClientOf(client: Nbd = nbd): Target {
  return {
    name: 'nbd-client',
    read(bytes, random) {
      const whole = negotiate(client, [bytes]);
      const inPieces = negotiate(client, cut(random, bytes));
      mustHold(JSON.stringify(whole) === JSON.stringify(inPieces), 'pieces come to another end');
      const { message: _, ...end } = whole;
      const right = JSON.stringify(expectedOf(bytes));
      mustHold(JSON.stringify(end) === right, `it ends with ${JSON.stringify(whole)}, not ${right}`);
    },
  };
}

export const nbdClient: Target = nbdClientOf();

function negotiate({ Conversation, NbdError, negotiateExport }: Nbd, pieces: readonly Buffer[]): Outcome {
  let sent = 0;
  const send = (bytes: Buffer) => {
    sent += bytes.length;
    mustHold(sent <= 64, `it says ${sent} bytes`);
  };
  const conversation = new Conversation(negotiateExport('disk', send));
  try {
    for (const piece of pieces) {
      conversation.feed(piece);
      if (conversation.result) return { export: ordered(conversation.result) };
    }
  } catch (error) {
    if (!(error instanceof NbdError)) throw error;
    return { refused: error.code, message: error.message };
  }
  return WANTS_MORE;
}

/** A reader of its own, which knows the protocol and nothing of the client. */
function expectedOf(bytes: Buffer): Outcome {
  if (bytes.length < 18) return WANTS_MORE;
  if (!bytes.subarray(0, 16).equals(MAGIC) || (bytes.readUInt16BE(16) & 1) === 0) return BROKEN;
  let said: Partial<NbdExport> = {};
  let at = 18;
  for (let replies = 0; replies < MOST_REPLIES; replies++) {
    if (bytes.length < at + 20) return WANTS_MORE;
    const [option, type, length] = [8, 12, 16].map((field) => bytes.readUInt32BE(at + field));
    if (bytes.readBigUInt64BE(at) !== REPLY_MAGIC || option !== GO || length > MOST_REPLY_BYTES) return BROKEN;
    const data = bytes.subarray(at + 20, at + 20 + length);
    if (data.length < length) return WANTS_MORE;
    at += 20 + length;
    if (type >= 2 ** 31) return { refused: 'ERR_REFUSED' };
    if (type === 1) return said.size === undefined ? BROKEN : { export: ordered(said) };
    const info = type === 3 ? informationOf(data) : undefined;
    if (!info) return BROKEN;
    said = { ...said, ...info };
  }
  return BROKEN;
}

/** Undefined: it is none, or is impossible. */
function informationOf(data: Buffer): Partial<NbdExport> | undefined {
  if (data.length < 2) return undefined;
  const type = data.readUInt16BE(0);
  if (type === 0) {
    if (data.length !== 12 || data.readBigUInt64BE(2) >= 2n ** 53n) return undefined;
    return { size: Number(data.readBigUInt64BE(2)), flags: data.readUInt16BE(10) };
  }
  if (type !== 3) return {};
  if (data.length !== 14) return undefined;
  const [minimumBlock, preferred, maximumBlock] = [2, 6, 10].map((field) => data.readUInt32BE(field));
  if (!isPowerOfTwo(minimumBlock) || minimumBlock > 65536) return undefined;
  if (preferred < minimumBlock || maximumBlock < minimumBlock) return undefined;
  let preferredBlock = minimumBlock;
  while (preferredBlock * 2 <= preferred) preferredBlock *= 2;
  return { minimumBlock, preferredBlock, maximumBlock };
}

function ordered(found: Partial<NbdExport>): NbdExport {
  const { size = 0, flags = 0, minimumBlock = 1, preferredBlock = 4096, maximumBlock = 32 << 20 } = found;
  return { size, flags, minimumBlock, preferredBlock, maximumBlock };
}

function isPowerOfTwo(number: number): boolean {
  return number > 0 && (number & (number - 1)) === 0;
}
