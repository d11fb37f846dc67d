import type { XsMessage } from '@xenpv/xenstore';
import * as xenstore from '@xenpv/xenstore';
import { cut } from './mutate.js';
import { mustHold, type Target } from './target.js';

/** The parts of the package that are fuzzed. */
type Wire = Pick<typeof xenstore, 'MessageDecoder' | 'XenstoreError' | 'decodeStrings'>;

const HEADER_BYTES = 16;
const MOST_PAYLOAD = 4096;

interface Decoded {
  readonly messages: readonly XsMessage[];
  readonly lost: boolean;
}

/**
 * The decoder of both ends: the messages that a reader of its own finds, however the bytes are cut; none too long, no byte
 * lost, no more kept than one message.
 */
export function xenstoreWireOf(wire: Wire = xenstore): Target {
  return {
    name: 'xenstore-wire',
    read(bytes, random) {
      const expected = expectedOf(bytes);
      const inPieces = decode(wire, cut(random, bytes));
      const right = text(expected.messages);
      for (const { messages, lost } of [decode(wire, [bytes]), inPieces]) {
        mustHold(lost === expected.lost, lost ? 'a stream is given up' : 'a stream is not given up');
        // What a chunk completes before the fault is lost with the stream.
        const found = text(messages);
        mustHold(lost ? right.startsWith(found) : right === found, `messages are ${found}; expected ${right}`);
      }
      for (const { payload } of inPieces.messages) checkStrings(payload, wire.decodeStrings(payload));
    },
  };
}

export const xenstoreWire: Target = xenstoreWireOf();

/** A reader of its own, which has all bytes at once. */
function expectedOf(bytes: Buffer): Decoded {
  const messages: XsMessage[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const [type, requestId, transactionId, length] = [0, 4, 8, 12].map((field) => bytes.readUInt32LE(at + field));
    if (length > MOST_PAYLOAD) return { messages, lost: true };
    at += HEADER_BYTES;
    if (at + length > bytes.length) break;
    messages.push({ type, requestId, transactionId, payload: bytes.subarray(at, at + length) });
    at += length;
  }
  return { messages, lost: false };
}

function decode({ MessageDecoder, XenstoreError }: Wire, pieces: readonly Buffer[]): Decoded {
  const decoder = new MessageDecoder();
  const messages: XsMessage[] = [];
  let given = 0;
  try {
    for (const piece of pieces) {
      given += piece.length;
      messages.push(...decoder.push(piece));
      mustHold(decoder.buffered < HEADER_BYTES + MOST_PAYLOAD, `${decoder.buffered} bytes are kept`);
    }
  } catch (error) {
    if (error instanceof XenstoreError && error.code === 'ERR_PROTOCOL') return { messages, lost: true };
    throw error;
  }
  const decoded = messages.reduce((sum, { payload }) => sum + HEADER_BYTES + payload.length, 0);
  mustHold(decoded + decoder.buffered === given, 'bytes are missing');
  return { messages, lost: false };
}

/** Joined again they are the payload, but for a NUL at its end. */
function checkStrings(payload: Uint8Array, strings: readonly string[]): void {
  const whole = Buffer.from(payload).toString('utf8');
  const joined = strings.join('\0');
  const isWhole = joined === whole || (strings.length > 0 && `${joined}\0` === whole);
  mustHold(isWhole, `${JSON.stringify(whole)} is split into ${JSON.stringify(strings)}`);
  mustHold(strings.length > 0 || whole === '', 'strings are missing');
}

function text(messages: readonly XsMessage[]): string {
  return messages
    .map(({ type, requestId, transactionId, payload }) =>
      [type, requestId, transactionId, Buffer.from(payload).toString('hex')].join(),
    )
    .join('\n');
}
