import { randomBytes } from 'node:crypto';
import type { Blkfront } from '@xenpv/blkfront';
import { type RawQueue, rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, BlkifStatus, RequestWriter } from '@xenpv/blkif';
import { BlockOp, memoryImage } from '@xenpv/blockdev';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { GatedImage } from '../testing/gated-image.js';
import { type TestGuest, TestHost } from '../testing/host.js';
import { indirects } from '../testing/indirect-requests.js';

const PAGE = 4096;
let host: TestHost;
let guest: TestGuest;
let gate: GatedImage;
let disk: Blkfront;

beforeEach(async () => {
  host = await TestHost.start({ memoryBytes: 512 * 1024, limits: { maxIndirectSegments: 64 } });
  gate = new GatedImage(memoryImage({ data: new Uint8Array(1024 * 1024) }));
  host.images.set('disk', () => gate);
  guest = await host.guest();
  disk = await guest.connect();
});

afterEach(async () => {
  gate.open = true;
  gate.release();
  await disk.close();
  await host[Symbol.asyncDispose]();
});

const arrived = (count: number) => vi.waitFor(() => expect(gate.log).toHaveLength(count));
const operations = () => gate.log.map((entry) => entry.op);

/** Puts requests of one page each and pushes them together. */
function together(raw: RawQueue, requests: [operation: number, page: number][]) {
  const { abi } = raw;
  const data = raw.page();
  const answers = requests.map(([operation, page], index) => {
    const words = new Int32Array(abi.slotWords);
    const request = new RequestWriter(words, abi);
    request.readWrite(operation, 1, index + 1, 0, page * 8);
    request.segment(0, data.gref, 0, 7);
    return raw.put(words);
  });
  raw.push();
  return answers;
}

describe('order', () => {
  it('a barrier waits for what came before it, and what comes after waits for it', async () => {
    const answers = together(rawQueue(disk), [
      [BlkifOp.write, 0],
      [BlkifOp.write, 10],
      [BlkifOp.writeBarrier, 20],
      [BlkifOp.write, 30],
    ]);
    await arrived(2);
    gate.release((entry) => entry.offset === 0);
    await answers[0];
    expect(operations()).toEqual([BlockOp.write, BlockOp.write]);
    gate.release();
    await arrived(3);
    gate.release();
    await arrived(4);
    gate.release();
    await arrived(5);
    expect(operations().slice(2)).toEqual([BlockOp.flush, BlockOp.writeFua, BlockOp.write]);
    gate.release();
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([0, 0, 0, 0]);
  });

  it('a flush with data flushes, then writes what was there when it was taken', async () => {
    const raw = rawQueue(disk);
    const data = raw.page();
    data.bytes.fill(7);
    const words = new Int32Array(raw.abi.slotWords);
    const request = new RequestWriter(words, raw.abi);
    request.readWrite(BlkifOp.flushDiskcache, 1, 1, 0, 0);
    request.segment(0, data.gref, 0, 7);
    const answer = raw.request(words);
    await arrived(1);
    data.bytes.fill(9);
    gate.release();
    await arrived(2);
    gate.release();
    expect((await answer).status).toBe(BlkifStatus.okay);
    expect(operations()).toEqual([BlockOp.flush, BlockOp.write]);
    gate.open = true;
    expect((await disk.read(0, PAGE)).every((byte) => byte === 7)).toBe(true);
  });

  it('answers come as the storage ends them, not as they were asked', async () => {
    const answers = together(rawQueue(disk), [
      [BlkifOp.read, 0],
      [BlkifOp.read, 100],
    ]);
    await arrived(2);
    const firstIsOpen = Symbol();
    gate.release((entry) => entry.offset !== 0);
    await answers[1];
    expect(await Promise.race([answers[0], Promise.resolve(firstIsOpen)])).toBe(firstIsOpen);
    gate.release();
    expect((await answers[0]).status).toBe(BlkifStatus.okay);
  });
});

describe('merging', () => {
  it('requests of one pass that continue each other are one call', async () => {
    const answers = together(rawQueue(disk), [
      [BlkifOp.write, 0],
      [BlkifOp.write, 1],
      [BlkifOp.write, 2],
      [BlkifOp.read, 3],
      [BlkifOp.read, 5],
    ]);
    await arrived(3);
    expect(gate.log.map(({ offset, length, pieces }) => [offset / PAGE, length / PAGE, pieces])).toEqual([
      [0, 3, 3],
      [3, 1, 1],
      [5, 1, 1],
    ]);
    gate.release();
    await Promise.all(answers);
    const { read, write } = host.device.statistics();
    expect([write.operations, write.merged, write.bytes]).toEqual([3, 2, 3 * PAGE]);
    expect([read.operations, read.merged]).toEqual([2, 0]);
  });

  it('a merged call that fails is done again in its parts, and only the bad part fails', async () => {
    gate.fail = ({ offset, length }) => (offset <= 1 * PAGE && offset + length > 1 * PAGE ? -5 : 0);
    gate.open = true;
    const answers = together(rawQueue(disk), [
      [BlkifOp.write, 0],
      [BlkifOp.write, 1],
      [BlkifOp.write, 2],
    ]);
    const statuses = (await Promise.all(answers)).map(({ status }) => status);
    expect(statuses).toEqual([BlkifStatus.okay, BlkifStatus.error, BlkifStatus.okay]);
    const { write } = host.device.statistics();
    expect([write.operations, write.failed]).toEqual([2, 1]);
  });
});

describe('memory', () => {
  it('requests wait for it, in order, and all are answered', async () => {
    gate.open = true;
    const data = randomBytes(1024 * 1024);
    await disk.write(0, data);
    expect(Buffer.compare(await disk.read(0, data.length), data)).toBe(0);
    await disk.close();
    await guest.detach();
    host.images.set('disk', () => memoryImage({ data: new Uint8Array(data) }));
    disk = await guest.connect({ ringPageOrder: 4, maxIndirectSegments: 64, poolPages: 1024 });
    const parts = Array.from({ length: 64 }, (_, i) => disk.read((i % 4) * 256 * 1024, 256 * 1024));
    for (const [i, part] of (await Promise.all(parts)).entries()) {
      const at = (i % 4) * 256 * 1024;
      expect(Buffer.compare(part, data.subarray(at, at + 256 * 1024))).toBe(0);
    }
    expect(host.device.statistics().starved).toBeGreaterThan(0);
  });
});

describe('a ring that sleeps while its request waits for the memory of another one of its disk', () => {
  let answers: Promise<unknown>[];
  let large: Promise<unknown>[];

  /** Sends requests on the second ring, while a large one of the first has the share of the disk. */
  async function behind(requests: [operation: number, page: number][]): Promise<void> {
    await disk.close();
    await guest.detach();
    await host.backend.close();
    await host.startBackend({ limits: { maxIndirectSegments: 64, maxQueues: 2 } });
    gate.queues.length = 0;
    disk = await guest.connect({ queues: 2 });
    const raw = rawQueue(disk, 0);
    large = indirects(raw, BlkifOp.read, 2, 64);
    raw.push();
    await vi.waitFor(() => expect(gate.log).toHaveLength(1));
    answers = together(rawQueue(disk, 1), requests);
    await vi.waitFor(() => expect(host.device.statistics().waiting).toBeGreaterThan(1));
    expect(gate.log).toHaveLength(1);
  }

  it('is looked at again when a barrier that was refused late lets others pass', async () => {
    await behind([
      [BlkifOp.writeBarrier, 1_000_000],
      [BlkifOp.read, 1],
    ]);
    gate.open = true;
    gate.release();
    expect(await Promise.all(answers)).toMatchObject([{ status: BlkifStatus.error }, { status: BlkifStatus.okay }]);
    await Promise.all(large);
  });

  it('has its engine polled after the submission', async () => {
    await behind([[BlkifOp.read, 1]]);
    const polled: boolean[] = [];
    const poll = vi.spyOn(gate.queues[1], 'poll').mockImplementation(() => {
      polled.push(gate.log.some(({ length }) => length === PAGE));
      return 0;
    });
    gate.open = true;
    gate.release();
    await Promise.all(answers);
    expect(polled).toContain(true);
    poll.mockRestore();
    await Promise.all(large);
  });
});

describe('storage that fails', () => {
  it('a read error is an ERROR, and nothing is copied to the guest', async () => {
    gate.open = true;
    gate.fail = () => -5;
    const raw = rawQueue(disk);
    const data = raw.page();
    data.bytes.fill(3);
    const words = new Int32Array(raw.abi.slotWords);
    const request = new RequestWriter(words, raw.abi);
    request.readWrite(BlkifOp.read, 1, 1, 0, 0);
    request.segment(0, data.gref, 0, 7);
    expect((await raw.request(words)).status).toBe(BlkifStatus.error);
    expect(data.bytes.every((byte) => byte === 3)).toBe(true);
    expect(host.device.statistics().read.failed).toBe(1);
  });

  it('a flush that the storage does not know is EOPNOTSUPP, and is not offered any more', async () => {
    gate.open = true;
    gate.fail = ({ op }) => (op === BlockOp.flush ? -95 : 0);
    const path = `/local/domain/0/backend/qdisk/${guest.domid}/51712/feature-flush-cache`;
    expect(await host.store.read(path)).toBe('1');
    const raw = rawQueue(disk);
    const words = new Int32Array(raw.abi.slotWords);
    const request = new RequestWriter(words, raw.abi);
    request.readWrite(BlkifOp.flushDiskcache, 0, 1, 0, 0);
    expect((await raw.request(words)).status).toBe(BlkifStatus.eopnotsupp);
    await vi.waitFor(async () => expect(await host.store.read(path)).toBe('0'));
  });

  it('one bad grant fails its own request only', async () => {
    gate.open = true;
    const raw = rawQueue(disk);
    const data = raw.page();
    const answers = [data.gref, 123_456, data.gref].map((gref, index) => {
      const words = new Int32Array(raw.abi.slotWords);
      const request = new RequestWriter(words, raw.abi);
      request.readWrite(BlkifOp.write, 1, index, 0, index * 8);
      request.segment(0, gref, 0, 7);
      return raw.put(words);
    });
    raw.push();
    const statuses = (await Promise.all(answers)).map(({ status }) => status);
    expect(statuses).toEqual([BlkifStatus.okay, BlkifStatus.error, BlkifStatus.okay]);
  });
});

describe('drain', () => {
  it('waits for taken requests and takes nothing until it is over', async () => {
    const first = disk.read(0, PAGE);
    await arrived(1);
    let drained = false;
    const draining = host.device.drain().then(() => {
      drained = true;
    });
    const second = disk.read(PAGE, PAGE);
    await new Promise(setImmediate);
    expect(drained).toBe(false);
    gate.release();
    await Promise.all([first, draining]);
    expect(gate.log).toHaveLength(1);
    host.device.undrain();
    await arrived(2);
    gate.release();
    await second;
  });
});

it('counts each phase of each request', async () => {
  gate.open = true;
  for (let i = 0; i < 10; i++) await disk.write(i * PAGE, new Uint8Array(PAGE));
  await disk.flush();
  await disk.discard(0, 64 * 1024);
  const { write, flush, discard, events, notifications, inFlight } = host.device.statistics();
  expect(write).toMatchObject({ operations: 10, bytes: 10 * PAGE, failed: 0, invalid: 0 });
  for (const buckets of Object.values(write.latency)) expect(buckets.reduce((a, b) => a + b)).toBe(10);
  expect(write.totalTimeNs).toBeGreaterThan(0);
  expect(flush.operations).toBe(1);
  expect(discard).toMatchObject({ operations: 1, bytes: 64 * 1024 });
  expect(events).toBeGreaterThan(0);
  expect(notifications).toBeGreaterThan(0);
  expect(inFlight).toBe(0);
});
