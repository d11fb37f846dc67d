import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeStrings, encodeMessage, encodeStrings, MessageDecoder, XS_MAX_PAYLOAD, XsOp, xsOpName } from './wire.js';

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const message = fc.record({
  type: u32,
  requestId: u32,
  transactionId: u32,
  payload: fc.uint8Array({ maxLength: 64 }),
});

describe('messages', () => {
  it('are laid out as xs_wire.h says', () => {
    const bytes = encodeMessage(XsOp.read, 0x01020304, 7, encodeStrings('/a'));
    expect([...bytes]).toEqual([2, 0, 0, 0, 4, 3, 2, 1, 7, 0, 0, 0, 3, 0, 0, 0, 0x2f, 0x61, 0]);
  });

  it('survive any chunking', () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 8 }), fc.array(fc.integer({ min: 1, max: 40 })), (messages, cuts) => {
        const stream = Buffer.concat(
          messages.map((m) => encodeMessage(m.type, m.requestId, m.transactionId, m.payload)),
        );
        const decoder = new MessageDecoder();
        const seen = chunks(stream, cuts).flatMap((chunk) => decoder.push(chunk));
        expect(seen.map((m) => ({ ...m, payload: Uint8Array.from(m.payload) }))).toEqual(messages);
        expect(decoder.buffered).toBe(0);
      }),
    );
  });

  it('may arrive byte by byte', () => {
    const decoder = new MessageDecoder();
    const bytes = encodeMessage(XsOp.write, 1, 0, new Uint8Array(XS_MAX_PAYLOAD));
    const seen = [...bytes].flatMap((byte) => decoder.push(Uint8Array.of(byte)));
    expect(seen.map((m) => m.payload.length)).toEqual([XS_MAX_PAYLOAD]);
  });

  it('with too long a payload are refused at the header', () => {
    const header = encodeMessage(XsOp.read, 1, 0, new Uint8Array(XS_MAX_PAYLOAD + 1)).subarray(0, 16);
    expect(() => new MessageDecoder().push(header)).toThrow(/4097 bytes of payload, at most 4096/);
    expect(new MessageDecoder(8192).push(header)).toEqual([]);
  });
});

describe('strings', () => {
  it.each([[['a', 'b']], [[]], [['']], [['a', '', 'b']], [['', '']]])('%j come back', (strings) => {
    expect(decodeStrings(encodeStrings(...strings))).toEqual(strings);
  });

  it('without a NUL at the end count', () => {
    expect(decodeStrings(Buffer.from('a\0b'))).toEqual(['a', 'b']);
  });
});

it('names every operation', () => {
  expect(xsOpName(XsOp.directoryPart)).toBe('directoryPart');
  expect(xsOpName(20)).toBe('op 20');
});

function chunks(stream: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  let at = 0;
  for (const cut of cuts) {
    pieces.push(stream.subarray(at, at + cut));
    at += cut;
  }
  pieces.push(stream.subarray(at));
  return pieces.filter((piece) => piece.length > 0);
}
