import {
  decodeStrings,
  MessageDecoder,
  XenstoreError,
  XS_HEADER_BYTES,
  XS_MAX_PAYLOAD,
  type XsMessage,
} from '@xenpv/xenstore';
import { cut } from './mutate.js';
import { mustHold, type Target } from './target.js';

/** The decoder of both ends: the same messages however the bytes are cut, none too long, no more kept than one message. */
export const xenstoreWire: Target = {
  name: 'xenstore-wire',
  read(bytes, random) {
    const whole = decode([bytes]);
    const inPieces = decode(cut(random, bytes));
    mustHold(whole.lost === inPieces.lost, 'pieces are another stream');
    // What a chunk completes before the fault is lost with the stream.
    if (!whole.lost) mustHold(text(whole.messages) === text(inPieces.messages), 'pieces are other messages');
    for (const { payload } of inPieces.messages) decodeStrings(payload);
  },
};

function decode(pieces: readonly Buffer[]): { messages: XsMessage[]; lost: boolean } {
  const decoder = new MessageDecoder();
  const messages: XsMessage[] = [];
  let given = 0;
  try {
    for (const piece of pieces) {
      given += piece.length;
      messages.push(...decoder.push(piece));
      mustHold(decoder.buffered < XS_HEADER_BYTES + XS_MAX_PAYLOAD, `${decoder.buffered} bytes are kept`);
    }
  } catch (error) {
    if (error instanceof XenstoreError && error.code === 'ERR_PROTOCOL') return { messages, lost: true };
    throw error;
  }
  const decoded = messages.reduce((sum, { payload }) => sum + XS_HEADER_BYTES + payload.length, 0);
  mustHold(decoded + decoder.buffered === given, 'bytes are missing');
  mustHold(
    messages.every(({ payload }) => payload.length <= XS_MAX_PAYLOAD),
    'a payload is too long',
  );
  return { messages, lost: false };
}

function text(messages: readonly XsMessage[]): string {
  return messages
    .map(({ type, requestId, transactionId, payload }) =>
      [type, requestId, transactionId, Buffer.from(payload).toString('hex')].join(),
    )
    .join('\n');
}
