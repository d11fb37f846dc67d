import { randomBytes } from 'node:crypto';
import type { Blkfront } from '@xenpv/blkfront';
import { rawQueue } from '@xenpv/blkfront/testing';
import { memoryImage } from '@xenpv/blockdev';
import { expect, it, vi } from 'vitest';
import { TestHost } from '../testing/host.js';

const MIB = 1024 * 1024;

const PAGES = 64;

/** A read of each of the first pages, all at once. */
function readAll(disk: Blkfront): Promise<Uint8Array>[] {
  return Array.from({ length: PAGES }, (_, i) => disk.read(i * 4096, 4096));
}

async function allEqual(reads: Promise<Uint8Array>[], data: Uint8Array): Promise<void> {
  for (const [i, part] of (await Promise.all(reads)).entries()) {
    expect(Buffer.compare(part, data.subarray(i * 4096, (i + 1) * 4096))).toBe(0);
  }
}

/** The worker threads run the built package: `pnpm build:js` comes first. */
it('rings are spread over worker threads, which serve them, change media and answer for them', async () => {
  const host = await TestHost.start({ threads: 2, limits: { maxQueues: 4 } });
  const guest = await host.guest();
  const image = memoryImage({ size: 4 * MIB });
  host.images.set('disk', () => image);
  const disk = await guest.connect({ queues: 4, ringPageOrder: 1 });
  const data = randomBytes(4 * MIB);
  await disk.write(0, data);
  await disk.flush();
  expect(Buffer.compare(await disk.read(0, data.length), data)).toBe(0);
  const { write, read } = host.device.statistics();
  expect(write.bytes).toBe(data.length);
  expect(read.bytes).toBe(data.length);
  await disk.close();
  await guest.detach();
  await host[Symbol.asyncDispose]();
});

it('a bad frontend on a thread is told apart and stopped', async () => {
  const host = await TestHost.start({ threads: 1 });
  const guest = await host.guest();
  const disk = await guest.connect();
  const raw = rawQueue(disk);
  Atomics.store(raw.shared, 0, 1000);
  raw.notify();
  const path = `/local/domain/0/backend/qdisk/${guest.domid}/51712/state`;
  await host.store.waitFor(async (ops) => ((await ops.tryRead(path)) === '5' ? true : undefined));
  await host[Symbol.asyncDispose]();
});

it('a backend on threads is stopped and started again under a reading guest', async () => {
  const host = await TestHost.start({ threads: 2 });
  const guest = await host.guest();
  const data = randomBytes(MIB);
  const image = memoryImage({ data: new Uint8Array(data) });
  host.images.set('disk', () => image);
  const disk = await guest.connect();
  for (let round = 0; round < 3; round++) {
    const reads = readAll(disk);
    await host.backend.close();
    await host.startBackend();
    await allEqual(reads, data);
  }
  await disk.close();
  await host[Symbol.asyncDispose]();
});

it('an image that cannot be shared is served on the main thread', async () => {
  const host = await TestHost.start({ threads: 1 });
  const guest = await host.guest();
  host.images.set('disk', () => Object.assign(memoryImage({ size: MIB }), { share: () => undefined }));
  const disk = await guest.connect();
  expect(await disk.read(0, 512)).toHaveLength(512);
  await disk.close();
  await vi.waitFor(async () => expect(host.device.negotiated).toBeUndefined());
  await host[Symbol.asyncDispose]();
});

it('a queue moves from thread to thread under load, and nobody notices', async () => {
  const host = await TestHost.start({ threads: 2 });
  const guest = await host.guest();
  const data = randomBytes(MIB);
  const image = memoryImage({ data: new Uint8Array(data) });
  host.images.set('disk', () => image);
  const disk = await guest.connect();
  for (let round = 0; round < 6; round++) {
    const reads = readAll(disk);
    await host.device.moveQueue(0, host.backend.hosts[round % 3]);
    await allEqual(reads, data);
  }
  expect(host.device.statistics().read.bytes).toBe(6 * PAGES * 4096);
  await disk.close();
  await host[Symbol.asyncDispose]();
});
