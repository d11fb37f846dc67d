import { describe, expect, test } from 'vitest';
import { type NbdExport, negotiateExport } from './client-negotiation.js';
import { Conversation } from './conversation.js';
import { NbdFlag, NbdHandshake, NbdInfo, NbdOption, NbdOptionReply } from './protocol/numbers.js';
import {
  decodeInfoRequest,
  decodeOption,
  encodeBlockSizes,
  encodeExportInfo,
  encodeGreeting,
  encodeOptionReply,
  NBD_CLIENT_FLAGS_BYTES,
  NBD_OPTION_BYTES,
} from './protocol/options.js';

const BOTH = NbdHandshake.fixedNewstyle | NbdHandshake.noZeroes;
const FLAGS = NbdFlag.hasFlags | NbdFlag.sendFlush;
const SIZES = { minimumBlock: 512, preferredBlock: 4096, maximumBlock: 1 << 20 };

const reply = (type: number, data?: Uint8Array) => encodeOptionReply(NbdOption.go, type, data);
const info = (data: Uint8Array) => reply(NbdOptionReply.info, data);
const ack = reply(NbdOptionReply.ack);
const size = info(encodeExportInfo(1 << 20, FLAGS));
const blocks = info(encodeBlockSizes(SIZES));

interface Outcome {
  readonly found: NbdExport | undefined;
  readonly sent: Buffer;
  readonly used: number;
}

/** What a client makes of a server that says this. */
function meet(pieces: readonly Uint8Array[], exportName = 'disk'): Outcome {
  const sent: Buffer[] = [];
  const conversation = new Conversation(negotiateExport(exportName, (bytes) => sent.push(bytes)));
  let used = 0;
  for (const piece of pieces) used += conversation.feed(Buffer.from(piece));
  return { found: conversation.result, sent: Buffer.concat(sent), used };
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

describe('a server that gives the export', () => {
  const whole = Buffer.concat([encodeGreeting(BOTH), size, blocks, ack]);
  const expected = { size: 1 << 20, flags: FLAGS, ...SIZES };

  test('is asked for it by name, with its block sizes', () => {
    const { sent } = meet([whole], 'naïve');
    expect(sent.readUInt32BE(0)).toBe(BOTH);
    const option = sent.subarray(NBD_CLIENT_FLAGS_BYTES);
    const data = option.subarray(NBD_OPTION_BYTES);
    expect(decodeOption(option)).toEqual({ option: NbdOption.go, length: data.length });
    expect(decodeInfoRequest(data)?.name).toBe('naïve');
    expect(data.readUInt16BE(data.length - 2)).toBe(NbdInfo.blockSize);
  });

  test('is understood wherever its bytes are split', () => {
    for (let at = 0; at <= whole.length; at++) {
      expect(meet([whole.subarray(0, at), whole.subarray(at)]).found, `split at ${at}`).toEqual(expected);
    }
    expect(meet([...whole].map((byte) => Buffer.of(byte))).found).toEqual(expected);
  });

  test('keeps the bytes that come after', () => {
    expect(meet([Buffer.concat([whole, Buffer.from('more')])]).used).toBe(whole.length);
  });

  test.each([
    [1000, 512],
    [5000, 4096],
    [2 ** 32 - 1, 2 ** 31],
  ])('may prefer blocks of %i bytes, which are no power of two: it gets %i', (preferredBlock, expected) => {
    const odd = info(encodeBlockSizes({ ...SIZES, preferredBlock }));
    expect(meet([encodeGreeting(BOTH), size, odd, ack]).found).toMatchObject({ preferredBlock: expected });
  });

  test('may be an old one: no NO_ZEROES, no block sizes', () => {
    const { found, sent } = meet([encodeGreeting(NbdHandshake.fixedNewstyle), size, ack]);
    expect(sent.readUInt32BE(0)).toBe(NbdHandshake.fixedNewstyle);
    expect(found).toMatchObject({ size: 1 << 20, minimumBlock: 1, preferredBlock: 4096 });
  });

  test('may tell what was not asked', () => {
    const name = info(Buffer.concat([uint16(1), Buffer.from('disk')]));
    expect(meet([encodeGreeting(BOTH), name, size, info(uint16(900)), blocks, ack]).found).toEqual(expected);
  });
});

describe('a server that refuses', () => {
  test.each([
    ['with a reason', reply(NbdOptionReply.unknown, Buffer.from('not today')), 'the export "disk": not today'],
    ['without one', reply(NbdOptionReply.unknown), 'the export "disk": error 6'],
    ['after it has told all', Buffer.concat([size, blocks, reply(NbdOptionReply.invalid)]), 'error 3'],
    ['at length', reply(NbdOptionReply.unknown, Buffer.alloc(1 << 16, 'a')), 'aaa'],
  ])('%s', (_name, said, words) => {
    const meeting = () => meet([encodeGreeting(BOTH), said]);
    expect(meeting).toThrow(expect.objectContaining({ name: 'NbdError', code: 'ERR_REFUSED', op: 'negotiate' }));
    expect(meeting).toThrow(words);
    try {
      meeting();
    } catch (error) {
      expect((error as Error).message.length).toBeLessThan(5000);
    }
  });
});

describe('a hostile server', () => {
  const greeting = encodeGreeting(BOTH);
  const tooLong = Buffer.from(ack);
  tooLong.writeUInt32BE(2 ** 32 - 1, 16);
  const huge = Buffer.alloc(12);
  huge.writeBigUInt64BE(2n ** 64n - 1n, 2);
  test.each<[string, Uint8Array[], string]>([
    ['speaks something else', [Buffer.from('SSH-2.0-OpenSSH_9.2p1 and more')], 'greet'],
    ['knows only the oldest negotiation', [encodeGreeting(0)], 'newstyle'],
    ['replies with noise', [greeting, Buffer.alloc(64, 0xff)], 'not one of NBD'],
    ['answers another option', [greeting, encodeOptionReply(NbdOption.list, NbdOptionReply.ack)], 'another option'],
    ['announces 4 GiB', [greeting, tooLong], 'too long'],
    ['answers with a list', [greeting, reply(NbdOptionReply.server, Buffer.alloc(8))], 'type 2'],
    ['gives no size', [greeting, blocks, ack], 'how large'],
    ['gives a size past 2^53', [greeting, info(huge), ack], 'type 0 is invalid'],
    ['cuts the size short', [greeting, info(Buffer.alloc(11)), ack], 'type 0 is invalid'],
    ['cuts the block sizes short', [greeting, info(encodeBlockSizes(SIZES).subarray(0, 13)), ack], 'type 3 is invalid'],
    ['tells nothing', [greeting, info(Buffer.alloc(1)), ack], 'no type'],
    ['never ends', [greeting, ...Array.from({ length: 1000 }, () => size)], 'do not end'],
    ...[0, 3, 1 << 20].map((minimumBlock): [string, Uint8Array[], string] => [
      `has blocks of ${minimumBlock} bytes`,
      [greeting, size, info(encodeBlockSizes({ ...SIZES, minimumBlock, preferredBlock: 1 << 21 })), ack],
      'type 3 is invalid',
    ]),
    [
      'takes less than a block',
      [greeting, size, info(encodeBlockSizes({ ...SIZES, maximumBlock: 511 })), ack],
      'type 3 is invalid',
    ],
  ])('%s', (_name, said, words) => {
    const meeting = () => meet(said);
    expect(meeting).toThrow(expect.objectContaining({ name: 'NbdError', code: 'ERR_PROTOCOL', op: 'negotiate' }));
    expect(meeting).toThrow(words);
  });
});
