import type { Blkfront } from '@xenpv/blkfront';
import { type RawQueue, rawQueue } from '@xenpv/blkfront/testing';
import { ABIS, type AbiName, BlkifOp, BlkifStatus, encodeSegment, RequestWriter, SEGMENT_WORDS } from '@xenpv/blkif';
import { memoryImage } from '@xenpv/blockdev';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { GatedImage } from '../../testing/gated-image.js';
import { type TestGuest, TestHost } from '../../testing/host.js';

const SECTORS = 2048;
const { okay, error, eopnotsupp } = BlkifStatus;
const TWO_55 = 2 ** 55;

/** A segment: grant reference (-1 for a good page), first and last sector. */
type Segment = [gref: number, first: number, last: number];
const GOOD = -1;

interface Case {
  readonly name: string;
  readonly operation: number;
  readonly sector?: number;
  readonly segments?: Segment[];
  /** What the request says, if not the number of `segments`. */
  readonly count?: number;
  /** Discard. */
  readonly sectors?: number;
  readonly flag?: number;
  /** Indirect: the inner operation; `segments` go to the indirect page. */
  readonly inner?: number;
  /** Indirect: the reference of the page of segments, if not a good one. */
  readonly page?: number;
  readonly status: number;
  readonly answered?: number;
}

const page: Segment = [GOOD, 0, 7];
const pages = (count: number) => Array.from({ length: count }, () => page);
const { read, write, writeBarrier, flushDiskcache, discard, indirect } = BlkifOp;

const CASES: Case[] = [
  { name: 'read', operation: read, segments: [page], status: okay },
  { name: 'read of eleven segments', operation: read, segments: pages(11), status: okay },
  { name: 'read of one sector in the middle of a page', operation: read, segments: [[GOOD, 3, 3]], status: okay },
  { name: 'read of the last sector', operation: read, sector: SECTORS - 1, segments: [[GOOD, 0, 0]], status: okay },
  { name: 'unknown operation 4', operation: 4, segments: [page], status: eopnotsupp },
  { name: 'unknown operation 7', operation: 7, segments: [page], status: eopnotsupp },
  { name: 'unknown operation 255', operation: 255, count: 255, status: eopnotsupp },
  { name: 'read of no segments', operation: read, segments: [], status: error },
  { name: 'write of no segments', operation: write, segments: [], status: error },
  { name: 'twelve segments', operation: read, segments: pages(11), count: 12, status: error },
  { name: '255 segments', operation: write, segments: pages(11), count: 255, status: error },
  { name: 'last sector 8', operation: read, segments: [[GOOD, 0, 8]], status: error },
  { name: 'last sector 255', operation: write, segments: [[GOOD, 0, 255]], status: error },
  { name: 'first sector after the last', operation: read, segments: [[GOOD, 5, 4]], status: error },
  { name: 'beyond the end', operation: read, sector: SECTORS - 1, segments: [[GOOD, 0, 1]], status: error },
  { name: 'at the end', operation: write, sector: SECTORS, segments: [[GOOD, 0, 0]], status: error },
  { name: 'sector 2^55', operation: read, sector: TWO_55, segments: [[GOOD, 0, 0]], status: error },
  { name: 'sector 2^53 - 1', operation: write, sector: 2 ** 53 - 1, segments: [[GOOD, 0, 0]], status: error },
  { name: 'a reference that was never granted', operation: read, segments: [[1_000_000, 0, 7]], status: error },
  { name: 'reference 2^32 - 1', operation: write, segments: [page, [0xffffffff, 0, 7]], status: error },
  { name: 'pure flush', operation: flushDiskcache, segments: [], status: okay },
  { name: 'flush with data', operation: flushDiskcache, segments: [page], status: okay },
  { name: 'flush of twelve segments', operation: flushDiskcache, segments: pages(11), count: 12, status: error },
  { name: 'pure barrier', operation: writeBarrier, segments: [], status: okay },
  { name: 'barrier with data', operation: writeBarrier, segments: [page], status: okay },
  { name: 'barrier beyond the end', operation: writeBarrier, sector: SECTORS, segments: [page], status: error },
  { name: 'discard', operation: discard, sectors: 8, status: okay },
  { name: 'discard of the whole disk', operation: discard, sectors: SECTORS, status: okay },
  { name: 'discard of nothing', operation: discard, sectors: 0, status: okay },
  { name: 'secure discard without such storage', operation: discard, flag: 1, sectors: 8, status: okay },
  { name: 'discard beyond the end', operation: discard, sector: 8, sectors: SECTORS, status: error },
  { name: 'discard that wraps', operation: discard, sector: 8, sectors: 2 ** 63, status: error },
  { name: 'indirect read', operation: indirect, inner: read, segments: pages(20), status: okay, answered: read },
  { name: 'indirect write', operation: indirect, inner: write, segments: pages(20), status: okay, answered: write },
  { name: 'indirect of 256', operation: indirect, inner: read, segments: pages(256), status: okay, answered: read },
  { name: 'indirect of 257', operation: indirect, inner: read, segments: pages(257), status: error, answered: read },
  { name: 'indirect of none', operation: indirect, inner: write, segments: [], status: error, answered: write },
  {
    name: 'indirect of 65535',
    operation: indirect,
    inner: read,
    segments: [page],
    count: 65535,
    status: error,
    answered: read,
  },
  { name: 'indirect discard', operation: indirect, inner: discard, segments: [page], status: error, answered: discard },
  {
    name: 'indirect indirect',
    operation: indirect,
    inner: indirect,
    segments: [page],
    status: error,
    answered: indirect,
  },
  { name: 'indirect 255', operation: indirect, inner: 255, segments: [page], status: error, answered: 255 },
  {
    name: 'indirect page never granted',
    operation: indirect,
    inner: read,
    segments: [page],
    page: 999_999,
    status: error,
    answered: read,
  },
  {
    name: 'indirect segment past its page',
    operation: indirect,
    inner: write,
    segments: [page, [GOOD, 0, 8]],
    status: error,
    answered: write,
  },
];

/** Sends a case; everything good that it refers to is granted for it. */
async function send(raw: RawQueue, test: Case, id = 1) {
  const { abi } = raw;
  const words = new Int32Array(abi.slotWords);
  const request = new RequestWriter(words, abi);
  const granted = [raw.page()];
  const segments = (test.segments ?? []).map(([gref, first, last]): Segment => {
    return [gref === GOOD ? granted[0].gref : gref, first, last];
  });
  const count = test.count ?? segments.length;
  const sector = test.sector ?? 0;
  if (test.operation === discard) {
    request.discard(test.flag ?? 0, id, 0, sector, test.sectors!);
  } else if (test.operation === indirect) {
    request.indirect(test.inner!, count, id, 0, sector);
    const table = raw.page();
    granted.push(table);
    const entries = new Int32Array(table.bytes.buffer, table.bytes.byteOffset, 1024);
    for (const [i, segment] of segments.slice(0, 512).entries()) encodeSegment(entries, i * SEGMENT_WORDS, ...segment);
    request.indirectGref(0, test.page ?? table.gref);
  } else {
    request.readWrite(test.operation, count & 0xff, id, 0, sector);
    for (const [i, segment] of segments.entries()) request.segment(i, ...segment);
  }
  const response = await raw.request(words);
  for (const one of granted) one.release();
  return response;
}

describe.each(Object.keys(ABIS) as AbiName[])('requests in %s', (abi) => {
  let host: TestHost;
  let guest: TestGuest;
  let disk: Blkfront;

  beforeEach(async () => {
    host = await TestHost.start({ sectorSize: 'image' });
    guest = await host.guest();
    disk = await guest.connect({ abi });
  });
  afterEach(async () => {
    await disk.close();
    await host[Symbol.asyncDispose]();
  });

  it('XSA-216: are answered as the table says, each once, with clean padding', async () => {
    const raw = rawQueue(disk);
    for (const [index, test] of CASES.entries()) {
      const id = 1000 + index;
      const response = await send(raw, test, id);
      const expected = {
        name: test.name,
        status: test.status,
        operation: test.answered ?? test.operation,
        idLow: id,
        idHigh: 0,
      };
      expect({ name: test.name, ...response }).toMatchObject(expected);
      expect(response.words[2] & 0xff00).toBe(0);
      if (abi !== 'x86_32') expect(response.words[3]).toBe(0);
    }
    await vi.waitFor(() => expect(host.device.statistics().inFlight).toBe(0));
  });

  it('a read-only disk refuses what would change it, and takes a pure flush', async () => {
    await disk.close();
    await guest.detach();
    disk = await guest.connect({ abi }, { readOnly: true });
    const raw = rawQueue(disk);
    const changes: Case[] = [
      { name: 'write', operation: write, segments: [page], status: error },
      { name: 'flush with data', operation: flushDiskcache, segments: [page], status: error },
      { name: 'barrier with data', operation: writeBarrier, segments: [page], status: error },
      { name: 'discard', operation: discard, sectors: 8, status: error },
      { name: 'indirect write', operation: indirect, inner: write, segments: [page], status: error },
      { name: 'pure flush', operation: flushDiskcache, segments: [], status: okay },
      { name: 'read', operation: read, segments: [page], status: okay },
    ];
    for (const test of changes) expect((await send(raw, test)).status, test.name).toBe(test.status);
  });

  it('a disk of 4096-byte sectors refuses what is not a multiple of them', async () => {
    await disk.close();
    await guest.detach();
    host.images.set('4k', () => memoryImage({ size: 1024 * 1024, sectorSize: 4096 }));
    disk = await guest.connect({ abi }, { target: '4k' });
    expect(disk.sectorSize).toBe(4096);
    expect(disk.size).toBe(1024 * 1024);
    const raw = rawQueue(disk);
    const misaligned: Case[] = [
      { name: 'sector 1', operation: read, sector: 1, segments: [page], status: error },
      { name: 'half a page', operation: read, segments: [[GOOD, 0, 3]], status: error },
      { name: 'sector 8', operation: read, sector: 8, segments: [page], status: okay },
      { name: 'discard of one', operation: discard, sectors: 1, status: error },
      { name: 'discard of eight', operation: discard, sector: 8, sectors: 8, status: okay },
    ];
    for (const test of misaligned) expect((await send(raw, test)).status, test.name).toBe(test.status);
  });

  it('XSA-155: a request that changes after it was taken is carried out as it was', async () => {
    await disk.close();
    await guest.detach();
    const gate = new GatedImage(memoryImage({ data: Uint8Array.from({ length: 65536 }, (_, i) => i >> 12) }));
    host.images.set('gate', () => gate);
    disk = await guest.connect({ abi }, { target: 'gate' });
    const raw = rawQueue(disk);
    const [good, other] = [raw.page(), raw.page()];
    const words = new Int32Array(raw.abi.slotWords);
    const request = new RequestWriter(words, raw.abi);
    request.readWrite(read, 1, 77, 0, 5 * 8);
    request.segment(0, good.gref, 0, 7);
    const answer = raw.request(words);
    await vi.waitFor(() => expect(gate.held).toHaveLength(1));
    // The whole slot: operation, id, sector, and a segment that names another page.
    raw.shared.fill(other.gref, 16, 16 + raw.abi.slotWords);
    gate.release();
    expect(await answer).toMatchObject({ idLow: 77, idHigh: 0, operation: read, status: okay });
    expect(good.bytes.every((byte) => byte === 5)).toBe(true);
    expect(other.bytes.every((byte) => byte === 0)).toBe(true);
    good.release();
    other.release();
  });
});

describe('a producer index that is impossible', () => {
  it('stops the ring without an answer, tells why, and disturbs nobody else', async () => {
    const host = await TestHost.start();
    const [bad, good] = [await host.guest(), await host.guest()];
    const badDisk = await bad.connect();
    const goodDisk = await good.connect();
    const raw = rawQueue(badDisk);
    Atomics.store(raw.shared, 0, 1000);
    raw.notify();
    const path = `/local/domain/0/backend/qdisk/${bad.domid}/51712`;
    await host.store.waitFor(async (ops) => ((await ops.tryRead(`${path}/state`)) === '5' ? true : undefined));
    const node = await host.store.read(`/local/domain/0/error/backend/qdisk/${bad.domid}/51712/error`);
    expect(node).toMatch(/^EINVAL .*more requests/);
    expect(Atomics.load(raw.shared, 2)).toBe(0);
    expect(await goodDisk.read(0, 4096)).toHaveLength(4096);
    await goodDisk.close();
    await host[Symbol.asyncDispose]();
  });
});
