import { Worker } from 'node:worker_threads';
import type { Blkfront } from '@xenpv/blkfront';
import { type RawResponse, rawQueue } from '@xenpv/blkfront/testing';
import {
  ABIS,
  type Abi,
  BlkifOp,
  BlkifStatus,
  DISCARD_SECURE,
  encodeSegment,
  RequestWriter,
  SEGMENT_WORDS,
} from '@xenpv/blkif';
import { type BlockImage, MemoryImage, memoryImage } from '@xenpv/blockdev';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { attachTestDisk, type TestDisk } from '../../testing/test-disk.js';

const SECTORS = 2048;
const ID_LOW = 0xdeadbeef | 0;
const ID_HIGH = 0x01234567;
const { okay, error, eopnotsupp } = BlkifStatus;

/** A segment as a guest writes it. */
type Segment = readonly [gref: number, first: number, last: number];

/** Sends a request of words, and checks that the answer is for it. */
async function send(front: Blkfront, words: Int32Array): Promise<RawResponse> {
  words[front.abi.idWord] = ID_LOW;
  words[front.abi.idWord + 1] = ID_HIGH;
  const response = await rawQueue(front).request(words);
  expect([response.idLow, response.idHigh]).toEqual([ID_LOW, ID_HIGH]);
  return response;
}

function readWrite(abi: Abi, operation: number, sector: number, segments: readonly Segment[], count = segments.length) {
  const words = new Int32Array(abi.slotWords);
  const request = new RequestWriter(words, abi);
  request.readWrite(operation, count, 0, 0, sector);
  for (const [i, segment] of segments.entries()) request.segment(i, ...segment);
  return words;
}

function discard(abi: Abi, sector: number, sectors: number, flag = 0) {
  const words = new Int32Array(abi.slotWords);
  const request = new RequestWriter(words, abi);
  request.discard(flag, 0, 0, sector, sectors);
  return words;
}

function indirect(abi: Abi, operation: number, count: number, sector: number, grefs: readonly number[]) {
  const words = new Int32Array(abi.slotWords);
  const request = new RequestWriter(words, abi);
  request.indirect(operation, count, 0, 0, sector);
  for (const [i, gref] of grefs.entries()) request.indirectGref(i, gref);
  return words;
}

/** A 64-bit sector number that no double holds. */
function withSector(abi: Abi, words: Int32Array, high: number, low: number) {
  words[abi.sectorWord] = low;
  words[abi.sectorWord + 1] = high;
  return words;
}

/** The same image with less to it. */
function without(image: MemoryImage, features: Partial<BlockImage['features']>): BlockImage {
  const poorer = new MemoryImage(image);
  return Object.assign(poorer, { features: { ...image.features, ...features } });
}

interface Setting {
  readonly front: Blkfront;
  readonly disk: TestDisk;
  readonly abi: Abi;
  /** A page of ours. */
  readonly gref: number;
  readonly page: Uint8Array;
}

async function inSetting(
  abi: Abi,
  run: (setting: Setting) => Promise<void>,
  options: { image?: BlockImage; readOnly?: boolean } = {},
): Promise<void> {
  const image = options.image ?? memoryImage({ size: SECTORS * 512 });
  await using disk = await attachTestDisk({ ...options, image });
  await using front = await disk.connect({ abi: abi.name });
  const { gref, bytes } = rawQueue(front).page();
  await run({ front, disk, abi, gref, page: bytes });
  // Whatever was asked, the disk still works.
  await front.read(0, 4096);
}

describe.each(Object.values(ABIS))('$name', (abi) => {
  /** What is sent, and the operation and the status that come back. */
  type Row = readonly [string, (setting: Setting) => Int32Array, number, number];
  const full = (gref: number): Segment => [gref, 0, 7];

  // What malformed.test.ts does not have: mostly numbers that no double holds.
  const rows: Row[] = [
    ['write of one sector in the middle of a page', ({ gref }) => readWrite(abi, 1, 9, [[gref, 3, 3]]), 1, okay],
    ['flush of nothing at a sector beyond all', () => readWrite(abi, 3, 2 ** 50, []), 3, okay],
    ['a bad segment after a good one', ({ gref }) => readWrite(abi, 1, 0, [full(gref), [gref, 7, 6]]), 1, error],
    ['one sector beyond the end', ({ gref }) => readWrite(abi, 0, SECTORS - 7, [full(gref)]), 0, error],
    ['sector 2^64 - 1', ({ gref }) => withSector(abi, readWrite(abi, 1, 0, [full(gref)]), -1, -1), 1, error],
    [
      'sector 2^64 - 8, whose end wraps',
      ({ gref }) => withSector(abi, readWrite(abi, 0, 0, [full(gref)]), -1, -8),
      0,
      error,
    ],
    ['a bad reference after a good one', ({ gref }) => readWrite(abi, 0, 0, [full(gref), full(0x7fff)]), 0, error],
    ['secure discard', () => discard(abi, 8, 8, DISCARD_SECURE), 5, okay],
    ['discard of more than 2^32 sectors', () => discard(abi, 0, 2 ** 40), 5, error],
    ['discard whose end wraps', () => withSector(abi, discard(abi, 0, 16), -1, -8), 5, error],
    ['indirect flush', ({ gref }) => indirect(abi, 3, 1, 0, [gref]), 3, error],
    ['indirect whose pages name nothing', ({ gref }) => indirect(abi, 0, 12, 0, [gref]), 0, error],
  ];

  it('answers what it can do and refuses what it must not, and goes on', async () => {
    await inSetting(abi, async (setting) => {
      // As an indirect page it has segments of pages that were never given.
      setting.page.fill(0x07);
      for (const [name, request, operation, status] of rows) {
        const response = await send(setting.front, request(setting));
        expect([name, response.operation, response.status]).toEqual([name, operation, status]);
      }
    });
  });

  it('answers an indirect request with the operation inside', async () => {
    await inSetting(abi, async ({ front, gref, page }) => {
      const data = rawQueue(front).page();
      const segments = new Int32Array(page.buffer, page.byteOffset, 1024);
      for (let i = 0; i < 20; i++) encodeSegment(segments, SEGMENT_WORDS * i, data.gref, 0, 7);
      data.bytes.fill(42);
      expect(await send(front, indirect(abi, BlkifOp.write, 20, 8, [gref]))).toMatchObject({
        operation: 1,
        status: okay,
      });
      expect((await front.read(4096, 20 * 4096)).every((byte) => byte === 42)).toBe(true);
      expect(await send(front, indirect(abi, BlkifOp.read, 20, 0, [gref]))).toMatchObject({
        operation: 0,
        status: okay,
      });
      expect(data.bytes[0]).toBe(42);
      encodeSegment(segments, SEGMENT_WORDS * 19, data.gref, 0, 8);
      expect(await send(front, indirect(abi, BlkifOp.read, 20, 0, [gref]))).toMatchObject({
        operation: 0,
        status: error,
      });
      encodeSegment(segments, SEGMENT_WORDS * 19, 0x7fff, 0, 7);
      expect(await send(front, indirect(abi, BlkifOp.write, 20, 0, [gref]))).toMatchObject({
        operation: 1,
        status: error,
      });
    });
  });

  it('moves exactly the sectors that a segment names', async () => {
    await inSetting(abi, async ({ front, gref, page }) => {
      page.fill(1);
      page.fill(2, 3 * 512, 5 * 512);
      expect(await send(front, readWrite(abi, 1, 100, [[gref, 3, 4]]))).toMatchObject({ status: okay });
      expect((await front.read(100 * 512, 1024)).every((byte) => byte === 2)).toBe(true);
      expect((await front.read(102 * 512, 512)).every((byte) => byte === 0)).toBe(true);
      page.fill(9);
      expect(await send(front, readWrite(abi, 0, 100, [[gref, 7, 7]]))).toMatchObject({ status: okay });
      expect([page[7 * 512 - 1], page[7 * 512], page[4095]]).toEqual([9, 2, 2]);
    });
  });

  it('XSA-216: leaves nothing of the slot in a response', async () => {
    await inSetting(abi, async ({ front }) => {
      const words = new Int32Array(abi.slotWords).fill(-1);
      words[0] = 0xff;
      const response = await send(front, words);
      expect([...response.words]).toEqual([
        ID_LOW,
        ID_HIGH,
        0xff | (eopnotsupp << 16),
        ...new Array(abi.responseWords - 3).fill(0),
      ]);
    });
  });

  it('has no discard where the storage has none, and a plain one for a secure one', async () => {
    const image = memoryImage({ size: SECTORS * 512 });
    const never = without(image, { discard: false, secureDiscard: false });
    await inSetting(
      abi,
      async ({ front }) => {
        expect(front.features.discard).toBe(false);
        expect(await send(front, discard(abi, 0, 8))).toMatchObject({ operation: 5, status: eopnotsupp });
      },
      { image: never },
    );
    const plain = without(image, { secureDiscard: false });
    await inSetting(
      abi,
      async ({ front }) => {
        expect(front.features).toMatchObject({ discard: true, secureDiscard: false });
        expect(await send(front, discard(abi, 0, 8, DISCARD_SECURE))).toMatchObject({ status: okay });
      },
      { image: plain },
    );
  });

  it('QEMU 209bef3e01: answers any words with their id, and goes on', async () => {
    await inSetting(abi, async ({ front, gref }) => {
      const word = fc.oneof(
        fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
        // Not 8, the reference of the ring itself: a guest that reads into that has nobody else to blame.
        fc.nat(7),
        fc.constant(gref),
        fc.constant(0x0700),
      );
      const slot = fc.array(word, { minLength: abi.slotWords, maxLength: abi.slotWords });
      const first = fc
        .tuple(fc.nat(7), fc.nat(13), fc.nat(600))
        .map(([op, count, high]) => op | (count << 8) | (high << 16));
      const check = fc.asyncProperty(fc.array(fc.tuple(first, slot), { maxLength: 32, size: 'max' }), async (slots) => {
        const answers = slots.map(([head, words]) => send(front, Int32Array.from([head, ...words.slice(1)])));
        for (const { status } of await Promise.all(answers)) expect([okay, error, eopnotsupp]).toContain(status);
      });
      await fc.assert(check, { numRuns: 50 });
    });
  });
});

describe('grants', () => {
  const abi = ABIS.x86_64;

  it('of pages that may only be read take a write, not a read', async () => {
    await inSetting(abi, async ({ front, disk }) => {
      await using allocator = disk.guest.provider.openGrantAllocator();
      const pages = allocator.allocate(0, 1, { writable: false });
      const segment: Segment = [pages.refs[0], 0, 7];
      expect(await send(front, readWrite(abi, BlkifOp.write, 0, [segment]))).toMatchObject({ status: okay });
      expect(await send(front, readWrite(abi, BlkifOp.read, 0, [segment]))).toMatchObject({ status: error });
    });
  });

  it('to another domain are invalid', async () => {
    await inSetting(abi, async ({ front, disk }) => {
      const other = await disk.host.createDomain({ name: 'other' });
      await using allocator = disk.guest.provider.openGrantAllocator();
      const pages = allocator.allocate(other.domid, 1, { writable: true });
      const segment: Segment = [pages.refs[0], 0, 7];
      expect(await send(front, readWrite(abi, BlkifOp.write, 0, [segment]))).toMatchObject({ status: error });
    });
  });

  it('that ended are invalid', async () => {
    await inSetting(abi, async ({ front, disk }) => {
      await using allocator = disk.guest.provider.openGrantAllocator();
      const pages = allocator.allocate(0, 1, { writable: true });
      allocator.release(pages);
      const segment: Segment = [pages.refs[0], 0, 7];
      expect(await send(front, readWrite(abi, BlkifOp.write, 0, [segment]))).toMatchObject({ status: error });
    });
  });
});

describe('a ring whose producer is impossible', () => {
  it.each([
    ['ahead by one more than the ring has', 512 + 1],
    ['behind the taken requests', -1],
    ['far away', 2 ** 31],
  ])('%s, is given up', async (_name, by) => {
    await using disk = await attachTestDisk();
    const front = await disk.connect();
    await front.read(0, 4096);
    Atomics.add(rawQueue(front).shared, 0, by);
    rawQueue(front).notify();
    await front.closed;
    const errorNode = disk.backendPath.replace('/local/domain/0/', '/local/domain/0/error/');
    expect(await disk.store.read(`${errorNode}/error`)).toMatch(/more requests/);
    expect(await disk.store.read(`${disk.backendPath}/state`)).toBe('6');
  });
});

it('XSA-155: does not care what a guest does to a request after it was taken', async () => {
  const abi = ABIS.x86_64;
  await inSetting(abi, async ({ front, gref }) => {
    const { shared } = rawQueue(front);
    // Flips every word of the slots between right and wrong, as fast as another processor can.
    const code = `
      const { workerData: { shared, stop } } = require('node:worker_threads');
      while (Atomics.load(stop, 0) === 0)
        for (let i = 16; i < shared.length; i++) shared[i] ^= 0x40400404;
    `;
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const vandal = new Worker(code, { eval: true, workerData: { shared, stop } });
    const ended = new Promise((resolve) => vandal.once('exit', resolve));
    await new Promise((resolve) => vandal.once('online', resolve));
    const raw = rawQueue(front);
    // Responses are vandalised too: no event is asked for, so that the Blkfront does not see them. What counts is
    // that there is one for each request.
    Atomics.store(shared, 3, Atomics.load(shared, 2) + 2 ** 30);
    const words = readWrite(abi, BlkifOp.write, 0, [[gref, 0, 7]]);
    const produced = () => Atomics.load(shared, 2) >>> 0;
    for (let sent = produced(), end = sent + 2000; sent < end; ) {
      while (sent - produced() < 100 && sent < end) {
        raw.ring.putRequest(words, 0, words.length);
        sent++;
      }
      raw.push();
      await new Promise((resolve) => setImmediate(resolve));
      const count = raw.ring.harvest();
      for (let i = 0; i < count; i++) raw.ring.takeResponse(words, 0, 0);
    }
    Atomics.store(stop, 0, 1);
    await ended;
    while (raw.ring.free < raw.ring.size) {
      for (let count = raw.ring.harvest(); count > 0; count--) raw.ring.takeResponse(words, 0, 0);
      await new Promise((resolve) => setImmediate(resolve));
    }
    raw.ring.finalCheck();
  });
});
