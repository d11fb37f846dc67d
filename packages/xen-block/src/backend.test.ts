import type { Blkfront, BlkfrontOptions } from '@xenpv/blkfront';
import { rawQueue } from '@xenpv/blkfront/testing';
import { memoryImage, nullImage } from '@xenpv/blockdev';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { XenBlockBackendOptions } from './options.js';
import { bytes, same } from './testing/bytes.js';
import { attachTestDisk } from './testing/test-disk.js';

const MIB = 1 << 20;
const code = (name: string) => expect.objectContaining({ code: name });

/** Numbers of requests that the backend has done. */
function requests(backend: Awaited<ReturnType<typeof attachTestDisk>>['backend']) {
  const [device] = [...backend.devices];
  const { read, write, flush, discard } = device.statistics();
  return {
    read: read.operations,
    write: write.operations,
    flush: flush.operations,
    discard: discard.operations,
  };
}

describe.each(['x86_32', 'x86_64', 'arm'] as const)('%s', (abi) => {
  it.each([0, 1, 2, 3, 4])('reads what it wrote, over a ring of order %i', async (ringPageOrder) => {
    const image = memoryImage({ size: 4 * MIB });
    await using disk = await attachTestDisk({ image });
    await using front = await disk.connect({ abi, ringPageOrder });
    expect(front.size).toBe(4 * MIB);
    expect(front.ringPageOrder).toBe(ringPageOrder);
    expect(rawQueue(front).ring.size).toBe(32 << ringPageOrder);
    const data = bytes(MIB, 7);
    await front.write(512, data);
    expect(same(new Uint8Array(image.data, 512, data.length), data)).toBe(true);
    expect(same(await front.read(512, data.length), data)).toBe(true);
    await front.flush();
  });
});

describe('what a disk says about itself', () => {
  it('has the features of its storage', async () => {
    await using disk = await attachTestDisk();
    await using front = await disk.connect();
    expect(front).toMatchObject({ sectorSize: 512, physicalSectorSize: 512, info: 0, readOnly: false, queues: 1 });
    expect(front.features).toEqual({
      flush: true,
      barrier: true,
      discard: true,
      discardGranularity: 512,
      discardAlignment: 0,
      secureDiscard: true,
      persistent: false,
      maxIndirectSegments: 32,
    });
  });

  it('is read-only when the toolstack says so', async () => {
    await using disk = await attachTestDisk({ readOnly: true });
    await using front = await disk.connect();
    expect(front.readOnly).toBe(true);
    await expect(front.write(0, bytes(512))).rejects.toThrow(code('ERR_READ_ONLY'));
    await expect(front.discard(0, 512)).rejects.toThrow(code('ERR_READ_ONLY'));
    await front.read(0, 512);
    await front.flush();
  });

  it('has sectors of 4096 bytes, and counts 512', async () => {
    const image = memoryImage({ size: MIB, sectorSize: 4096 });
    await using disk = await attachTestDisk({ image, backend: { sectorSize: 'image' } });
    await using front = await disk.connect();
    expect(await disk.store.read(`${disk.backendPath}/sectors`)).toBe('2048');
    expect(front).toMatchObject({ size: MIB, sectorSize: 4096 });
    await expect(front.read(512, 4096)).rejects.toThrow(code('ERR_ALIGNMENT'));
    await expect(front.read(0, 512)).rejects.toThrow(code('ERR_ALIGNMENT'));
    await front.write(8192, bytes(12288));
    expect(same(await front.read(8192, 12288), bytes(12288))).toBe(true);
  });
});

describe('requests', () => {
  it.each([
    [-512, 512, 'ERR_RANGE'],
    [4 * MIB, 512, 'ERR_RANGE'],
    [4 * MIB - 512, 1024, 'ERR_RANGE'],
    [Number.NaN, 512, 'ERR_RANGE'],
    [2 ** 60, 512, 'ERR_RANGE'],
    [1, 512, 'ERR_ALIGNMENT'],
    [0, 511, 'ERR_ALIGNMENT'],
  ])('%d, %d bytes: %s, without asking the backend', async (offset, length, name) => {
    await using disk = await attachTestDisk();
    await using front = await disk.connect();
    await expect(front.read(offset, length)).rejects.toThrow(code(name));
    await expect(front.write(offset, bytes(length))).rejects.toThrow(code(name));
    await expect(front.discard(offset, length)).rejects.toThrow(code(name));
    expect(requests(disk.backend)).toMatchObject({ read: 0, write: 0, discard: 0 });
  });

  it('of nothing are nothing', async () => {
    await using disk = await attachTestDisk();
    await using front = await disk.connect();
    expect(await front.read(0, 0)).toEqual(new Uint8Array(0));
    await front.write(4 * MIB, new Uint8Array(0));
    expect(requests(disk.backend)).toMatchObject({ read: 0, write: 0 });
  });

  it('wait for each other when the ring is full', async () => {
    await using disk = await attachTestDisk();
    await using front = await disk.connect({ ringPageOrder: 0 });
    const writes = Array.from({ length: 500 }, (_, i) => front.write(i * 4096, bytes(4096, i)));
    await Promise.all(writes);
    const reads = await Promise.all(Array.from({ length: 500 }, (_, i) => front.read(i * 4096, 4096)));
    expect(reads.every((data, i) => same(data, bytes(4096, i)))).toBe(true);
    expect(front.inFlight).toBe(0);
  });

  it('wait for each other when the pages are all in use', async () => {
    await using disk = await attachTestDisk();
    await using front = await disk.connect({ poolPages: 1 });
    const data = bytes(MIB, 3);
    await Promise.all([front.write(0, data), front.write(MIB, data), front.write(2 * MIB, data)]);
    expect(same(await front.read(MIB, 2 * MIB), Buffer.concat([data, data]))).toBe(true);
  });

  it.each([
    [0, 0, 11],
    [11, 0, 11],
    [12, 12, 12],
    [32, 32, 32],
    [1000, 256, 256],
  ])('asked for %i indirect segments use %i', async (maxIndirectSegments, negotiated, segments) => {
    await using disk = await attachTestDisk();
    await using front = await disk.connect({ maxIndirectSegments });
    expect(front.features.maxIndirectSegments).toBe(negotiated);
    expect(front.maxSegments).toBe(segments);
    const data = bytes(MIB, segments);
    await front.write(1024, data);
    expect(requests(disk.backend).write).toBe(Math.ceil(256 / segments));
    expect(same(await front.read(1024, MIB), data)).toBe(true);
  });

  it('carry up to 4096 segments in one', async () => {
    const image = memoryImage({ size: 32 * MIB });
    await using disk = await attachTestDisk({ image, backend: { limits: { maxIndirectSegments: 4096 } } });
    await using front = await disk.connect({ maxIndirectSegments: 4096, poolPages: 4200 });
    const data = bytes(16 * MIB, 5);
    await front.write(MIB, data);
    expect(requests(disk.backend).write).toBe(1);
    expect(same(await front.read(MIB, data.length), data)).toBe(true);
  });

  it('discard, securely or not', async () => {
    await using disk = await attachTestDisk();
    await using front = await disk.connect();
    await front.write(0, bytes(3 * 4096));
    await front.discard(4096, 4096);
    expect((await front.read(4096, 4096)).every((byte) => byte === 0)).toBe(true);
    await front.discard(0, front.size, { secure: true });
    expect((await front.read(0, 3 * 4096)).every((byte) => byte === 0)).toBe(true);
    expect(requests(disk.backend).discard).toBe(2);
  });

  it('write with a flush or a barrier, data included', async () => {
    await using disk = await attachTestDisk();
    await using front = await disk.connect();
    const data = bytes(20 * 4096, 9);
    await front.write(0, data, { mode: 'barrier' });
    await front.write(data.length, data, { mode: 'flush' });
    expect(same(await front.read(data.length, data.length), data)).toBe(true);
    // 20 pages do not fit the 11 segments of a direct request, and neither may be indirect.
    expect(requests(disk.backend)).toMatchObject({ write: 2, flush: 2 });
  });

  it.each<[string, Partial<XenBlockBackendOptions>, Partial<BlkfrontOptions>]>([
    ['by copying', {}, { queues: 2 }],
    ['by mapping', { dataPath: 'map' }, { abi: 'x86_32', maxIndirectSegments: 64 }],
    ['with persistent grants', { dataPath: 'persistent', persistentPages: 20 }, { persistent: true }],
    ['on a thread', { threads: 1 }, { abi: 'arm', maxIndirectSegments: 0 }],
  ])('leave a disk as a model says, whatever is asked at once: %s', async (_name, backend, options) => {
    const sectors = 256;
    const image = memoryImage({ size: sectors * 512 });
    await using disk = await attachTestDisk({ image, backend });
    await using front = await disk.connect({ ringPageOrder: 0, ...options });
    const model = new Uint8Array(sectors * 512);
    const operation = fc.record({
      kind: fc.constantFrom('read', 'write', 'discard', 'flush', 'settle'),
      from: fc.nat(sectors - 1),
      count: fc.integer({ min: 1, max: 100 }),
      seed: fc.nat(255),
    });
    const check = fc.asyncProperty(fc.array(operation, { maxLength: 30, size: 'max' }), async (operations) => {
      let flight: Promise<unknown>[] = [];
      let used = new Uint8Array(sectors);
      for (const { kind, from, count, seed } of operations) {
        const end = Math.min(sectors, from + count);
        // Requests that overlap have no order.
        if (kind === 'settle' || used.subarray(from, end).includes(1)) {
          await Promise.all(flight);
          flight = [];
          used = new Uint8Array(sectors);
        }
        used.fill(1, from, end);
        const range = model.subarray(from * 512, end * 512);
        flight.push(run(front, kind, from * 512, range, seed));
      }
      await Promise.all(flight);
      expect(same(new Uint8Array(image.data), model)).toBe(true);
    });
    await fc.assert(check, { numRuns: 30 });
  });
});

/** Does to the disk what it does to its model. */
async function run(front: Blkfront, kind: string, offset: number, model: Uint8Array, seed: number): Promise<void> {
  if (kind === 'read') expect(same(await front.read(offset, model.length), model)).toBe(true);
  if (kind === 'flush') await front.flush();
  if (kind === 'write') {
    model.set(bytes(model.length, seed));
    await front.write(offset, model.slice());
  }
  if (kind === 'discard') {
    model.fill(0);
    await front.discard(offset, model.length);
  }
}

it('keeps the rings full for measurements', async () => {
  await using disk = await attachTestDisk({
    image: nullImage({ size: 2 ** 40 }),
    backend: { limits: { maxQueues: 2 } },
  });
  await using front = await disk.connect({ queues: 2 });
  const load = { operation: 'read', blockSize: 4096, requests: 5000, spins: 0 } as const;
  expect(await front.load(load)).toMatchObject({ requests: 5000, errors: 0, bytes: 5000 * 4096 });
  expect(await front.load({ ...load, operation: 'write', random: true, depth: 3 })).toMatchObject({ requests: 5000 });
  expect(requests(disk.backend)).toMatchObject({ read: 5000, write: 5000 });
  const { latency } = await front.load({ ...load, latency: true });
  expect(latency?.p50).toBeGreaterThan(0);
  expect(latency?.max).toBeGreaterThanOrEqual(latency?.p99 ?? Number.POSITIVE_INFINITY);
  await expect(front.load({ ...load, blockSize: 2 ** 24 })).rejects.toThrow(code('ERR_RANGE'));
  await expect(front.load({ ...load, blockSize: 100 })).rejects.toThrow(code('ERR_ALIGNMENT'));
  expect((await front.read(0, 4096)).length).toBe(4096);
});

it('may block its thread while the backend has another', async () => {
  await using disk = await attachTestDisk({ backend: { threads: 1 } });
  await using front = await disk.connect();
  const load = { operation: 'write', blockSize: 4096, requests: 20_000, blocking: true, spins: 0 } as const;
  const { requests: done, errors, sleeps } = await front.load(load);
  expect([done, errors]).toEqual([20_000, 0]);
  expect(sleeps).toBeGreaterThan(0);
  await front.read(0, 4096);
});

describe('new limits', () => {
  it('are refused when one is out of its range, and nothing changes', async () => {
    await using disk = await attachTestDisk();
    expect(() => disk.backend.setLimits({ maxQueues: 2, maxRingPageOrder: 99 })).toThrow(RangeError);
    await using front = await disk.connect();
    expect(front.queues).toBe(1);
  });
});
