import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ABIS,
  type Abi,
  abiOfProtocol,
  BlkifOp,
  BlkifStatus,
  discardFlag,
  discardSectors,
  encodeResponse,
  encodeSegment,
  type Gref,
  indirectGref,
  indirectHandle,
  indirectNrSegments,
  indirectOperation,
  RequestWriter,
  requestHandle,
  requestIdHigh,
  requestIdLow,
  requestNrSegments,
  requestOperation,
  requestSector,
  responseIdHigh,
  responseIdLow,
  responseOperation,
  responseStatus,
  ringSlotsForOrder,
  segmentFirst,
  segmentGref,
  segmentLast,
} from './index.js';

/** Byte offsets as the header lays the structures out, for the two ways of aligning 64-bit fields. */
const offsets = {
  x86_32: { id: 4, sector: 12, segments: 20, discard: 20, indirectHandle: 20, grefs: 24, slot: 108, response: 12 },
  x86_64: { id: 8, sector: 16, segments: 24, discard: 24, indirectHandle: 24, grefs: 28, slot: 112, response: 16 },
  arm: { id: 8, sector: 16, segments: 24, discard: 24, indirectHandle: 24, grefs: 28, slot: 112, response: 16 },
} as const;

const ID = 0x0123456789abcdefn;
const ID_LOW = 0x89abcdef | 0;
const ID_HIGH = 0x01234567;
const SECTOR = 0x1_2345_6789;

describe.each(Object.values(ABIS))('$name', (abi: Abi) => {
  const at = offsets[abi.name];
  /** A slot that was used before, three words into a buffer. */
  const fresh = () => new Int32Array(3 + abi.slotWords).fill(-1);
  const writer = (words: Int32Array, handle?: number) => new RequestWriter(words.subarray(3), abi, handle);
  const view = (words: Int32Array) => new DataView(words.buffer, 12);

  it('has the sizes of the header', () => {
    expect(abi.slotBytes).toBe(at.slot);
    expect(abi.slotWords * 4).toBe(at.slot);
    expect(abi.responseWords * 4).toBe(at.response);
    expect(writer(fresh()).readWrite(BlkifOp.read, 11, 0, 0, 0)).toBeLessThanOrEqual(abi.slotWords);
  });

  it('lays out a read or write', () => {
    const words = fresh();
    const request = writer(words, 0xca00);
    const length = request.readWrite(BlkifOp.write, 2, ID_LOW, ID_HIGH, SECTOR);
    request.segment(0, 0xfffffff0, 1, 7);
    request.segment(1, 42, 0, 3);
    const bytes = view(words);
    expect([bytes.getUint8(0), bytes.getUint8(1), bytes.getUint16(2, true)]).toEqual([1, 2, 0xca00]);
    expect(bytes.getBigUint64(at.id, true)).toBe(ID);
    expect(bytes.getBigUint64(at.sector, true)).toBe(BigInt(SECTOR));
    expect(bytes.getUint32(at.segments, true)).toBe(0xfffffff0);
    expect([bytes.getUint8(at.segments + 4), bytes.getUint8(at.segments + 5)]).toEqual([1, 7]);
    expect(bytes.getUint16(at.segments + 6, true)).toBe(0);
    expect(bytes.getUint32(at.segments + 8, true)).toBe(42);
    expect(requestOperation(words, 3)).toBe(BlkifOp.write);
    expect(requestNrSegments(words, 3)).toBe(2);
    expect(requestHandle(words, 3)).toBe(0xca00);
    expect(requestIdLow(words, 3, abi)).toBe(ID_LOW);
    expect(requestIdHigh(words, 3, abi)).toBe(ID_HIGH);
    expect(requestSector(words, 3, abi)).toBe(SECTOR);
    const segment = 3 + abi.segmentsWord;
    expect([segmentGref(words, segment), segmentFirst(words, segment), segmentLast(words, segment)]).toEqual([
      0xfffffff0, 1, 7,
    ]);
    expect(length * 4).toBe(at.segments + 16);
  });

  it('lays out a discard', () => {
    const words = fresh();
    const length = writer(words, 7).discard(1, ID_LOW, ID_HIGH, SECTOR, 2 ** 40 + 5);
    const bytes = view(words);
    expect([bytes.getUint8(0), bytes.getUint8(1), bytes.getUint16(2, true)]).toEqual([5, 1, 7]);
    expect(bytes.getBigUint64(at.id, true)).toBe(ID);
    expect(bytes.getBigUint64(at.sector, true)).toBe(BigInt(SECTOR));
    expect(bytes.getBigUint64(at.discard, true)).toBe(2n ** 40n + 5n);
    expect(discardFlag(words, 3)).toBe(1);
    expect(discardSectors(words, 3, abi)).toBe(2 ** 40 + 5);
    expect(length * 4).toBe(at.discard + 8);
  });

  it('lays out an indirect request', () => {
    const words = fresh();
    const request = writer(words, 0xca00);
    const length = request.indirect(BlkifOp.read, 4096, ID_LOW, ID_HIGH, SECTOR);
    for (let i = 0; i < 8; i++) request.indirectGref(i, 0xfffffff0 + i);
    const bytes = view(words);
    expect([bytes.getUint8(0), bytes.getUint8(1), bytes.getUint16(2, true)]).toEqual([6, 0, 4096]);
    expect(bytes.getBigUint64(at.id, true)).toBe(ID);
    expect(bytes.getBigUint64(at.sector, true)).toBe(BigInt(SECTOR));
    expect(bytes.getUint16(at.indirectHandle, true)).toBe(0xca00);
    expect(bytes.getUint32(at.grefs + 28, true)).toBe(0xfffffff7);
    expect(indirectOperation(words, 3)).toBe(BlkifOp.read);
    expect(indirectNrSegments(words, 3)).toBe(4096);
    expect(indirectHandle(words, 3, abi)).toBe(0xca00);
    expect(indirectGref(words, 3, abi, 7)).toBe(0xfffffff7);
    expect(length * 4).toBe(at.grefs + 32);
  });

  it.each(Object.entries(BlkifStatus))('writes a response whole, padding zero: %s', (_name, status) => {
    const words = fresh();
    encodeResponse(words, 3, abi, ID_LOW, ID_HIGH, BlkifOp.discard, status);
    const bytes = view(words);
    expect(bytes.getBigUint64(0, true)).toBe(ID);
    expect([bytes.getUint8(8), bytes.getUint8(9), bytes.getInt16(10, true)]).toEqual([5, 0, status]);
    if (at.response === 16) expect(bytes.getUint32(12, true)).toBe(0);
    // What is behind the response is not ours to write.
    expect(words[3 + abi.responseWords]).toBe(-1);
    expect([responseIdLow(words, 3), responseIdHigh(words, 3)]).toEqual([ID_LOW, ID_HIGH]);
    expect([responseOperation(words, 3), responseStatus(words, 3)]).toEqual([5, status]);
  });

  it('gives back every number that it is given', () => {
    const u53 = fc.nat(Number.MAX_SAFE_INTEGER);
    const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
    fc.assert(
      fc.property(word, word, u53, u53, fc.nat(0xffff), fc.nat(255), (low, high, sector, sectors, handle, flag) => {
        const words = fresh();
        writer(words, handle).discard(flag, low, high, sector, sectors);
        expect([requestIdLow(words, 3, abi), requestIdHigh(words, 3, abi)]).toEqual([low, high]);
        expect([requestSector(words, 3, abi), discardSectors(words, 3, abi)]).toEqual([sector, sectors]);
        expect([requestHandle(words, 3), discardFlag(words, 3)]).toEqual([handle, flag]);
      }),
    );
  });

  it('reads whatever a guest writes, and a sector beyond all disks as that', () => {
    const slot = fc.uint8Array({ minLength: abi.slotBytes, maxLength: abi.slotBytes });
    fc.assert(
      fc.property(slot, (bytes) => {
        const words = new Int32Array(bytes.slice().buffer);
        const wide = new DataView(words.buffer).getBigUint64(at.sector, true);
        expect(requestSector(words, 0, abi)).toBe(Number(wide));
        expect(requestOperation(words, 0)).toBe(bytes[0]);
        expect(requestNrSegments(words, 0)).toBe(bytes[1]);
      }),
    );
    const words = new Int32Array(abi.slotWords).fill(-1);
    expect(requestSector(words, 0, abi)).toBe(2 ** 64);
    words[abi.sectorWord] = 0;
    words[abi.sectorWord + 1] = 2 ** 23;
    expect(requestSector(words, 0, abi)).toBe(2 ** 55);
  });
});

describe('protocol names', () => {
  it.each([
    ['x86_32-abi', 'x64', 'x86_32'],
    ['x86_64-abi', 'x64', 'x86_64'],
    ['arm-abi', 'arm64', 'arm'],
    ['x86_64-abi', 'arm64', 'x86_64'],
    [undefined, 'x64', 'x86_32'],
    [undefined, 'ia32', 'x86_32'],
    [undefined, 'arm64', 'arm'],
  ])('%s on %s is %s', (protocol, arch, name) => {
    expect(abiOfProtocol(protocol, arch)?.name).toBe(name);
  });

  it.each(['', 'x86_64', 'native', 'x86_64-abi ', 'X86_64-ABI', 'x86_32-abi\0'])('%j is none', (protocol) => {
    expect(abiOfProtocol(protocol)).toBeUndefined();
  });
});

it('has 32 slots a page, whatever the order', () => {
  expect([0, 1, 2, 3, 4].map(ringSlotsForOrder)).toEqual([32, 64, 128, 256, 512]);
});

/** Never run: the compiler says what holds. The marks are those of @xenpv/xen-sys. */
export function isCompiled(
  request: RequestWriter,
  gref: Gref,
  port: number & { readonly '~kind'?: 'evtchn port' },
): void {
  request.segment(0, gref, 0, 7);
  request.segment(0, 1234, 0, 7);
  request.indirectGref(0, segmentGref(request.words, 0));
  // @ts-expect-error a port is no grant reference
  request.segment(0, port, 0, 7);
  // @ts-expect-error a port is no grant reference
  request.indirectGref(0, port);
  // @ts-expect-error a port is no grant reference
  encodeSegment(request.words, 0, port, 0, 7);
}
