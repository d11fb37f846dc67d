import { randomBytes } from 'node:crypto';
import type { Blkfront } from '@xenpv/blkfront';
import { rawQueue } from '@xenpv/blkfront/testing';
import { memoryImage } from '@xenpv/blockdev';
import { expect, it, onTestFinished, vi } from 'vitest';
import type { XenBlockBackendOptions } from '../options.js';
import { TestHost } from '../testing/host.js';

const MIB = 1024 * 1024;

const PAGES = 64;

/** A read of each of the first pages, all at once. */
function readAll(disk: Blkfront): Promise<Uint8Array>[] {
  return Array.from({ length: PAGES }, (_, i) => disk.read(i * 4096, 4096));
}

/** A host that is closed when its test is over, however it ends. */
async function startHost(options: Partial<XenBlockBackendOptions>): Promise<TestHost> {
  const host = await TestHost.start(options);
  onTestFinished(() => host[Symbol.asyncDispose]());
  return host;
}

async function allEqual(reads: Promise<Uint8Array>[], data: Uint8Array): Promise<void> {
  for (const [i, part] of (await Promise.all(reads)).entries()) {
    expect(Buffer.compare(part, data.subarray(i * 4096, (i + 1) * 4096))).toBe(0);
  }
}

/** The worker threads run the built package: `pnpm build:js` comes first. */
it('rings are spread over worker threads, which serve them, change media and answer for them', async () => {
  const host = await startHost({ threads: 2, limits: { maxQueues: 4 } });
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
});

it('a bad frontend on a thread is told apart and stopped', async () => {
  const host = await startHost({ threads: 1 });
  const [bad, good] = [await host.guest(), await host.guest()];
  const data = randomBytes(MIB);
  host.images.set('disk', () => memoryImage({ data: new Uint8Array(data) }));
  const [badDisk, goodDisk] = [await bad.connect(), await good.connect()];
  expect(host.backend.hosts.map(({ ringCount }) => ringCount)).toEqual([0, 2]);
  const raw = rawQueue(badDisk);
  Atomics.store(raw.shared, 0, 1000);
  raw.notify();
  const backend = (domid: number) => `/local/domain/0/backend/qdisk/${domid}/51712`;
  await host.store.waitFor(async (ops) =>
    (await ops.tryRead(`${backend(bad.domid)}/state`)) === '5' ? true : undefined,
  );
  expect(await host.store.read(`/local/domain/0/error/backend/qdisk/${bad.domid}/51712/error`)).toMatch(
    /more requests on its ring than the ring has slots/,
  );
  expect(await host.store.read(`${backend(good.domid)}/state`)).toBe('4');
  await allEqual(readAll(goodDisk), data);
  await goodDisk.close();
});

it('a backend on threads is stopped and started again under a reading guest', async () => {
  const host = await startHost({ threads: 2 });
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
});

it('an image that cannot be shared is served on the main thread', async () => {
  const host = await startHost({ threads: 1 });
  const guest = await host.guest();
  host.images.set('disk', () => Object.assign(memoryImage({ size: MIB }), { share: () => undefined }));
  const disk = await guest.connect();
  expect(await disk.read(0, 512)).toHaveLength(512);
  await disk.close();
  await vi.waitFor(async () => expect(host.device.negotiated).toBeUndefined());
});

it('QEMU 32d0b7be68: a queue moves from thread to thread under load, and nobody notices', async () => {
  const host = await startHost({ threads: 2 });
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
});

it('a thread that is stuck does not answer a ping, and does when it goes on', async () => {
  const host = await startHost({ threads: 2 });
  const guest = await host.guest();
  await host.backend.ping();
  const gate = new Int32Array(new SharedArrayBuffer(4));
  const image = memoryImage({ size: MIB });
  const { module, data } = { ...image.share(), module: new URL('../testing/stuck-image.mjs', import.meta.url).href };
  host.images.set('disk', () => Object.assign(image, { share: () => ({ module, data: { gate: gate.buffer, data } }) }));
  const connecting = guest.connect();
  await expect.poll(() => host.backend.hosts.some(({ ringCount }) => ringCount > 0)).toBe(true);
  let isAnswered = false;
  const pinged = host.backend.ping().then(() => {
    isAnswered = true;
  });
  await host.backend.hosts[0].ping();
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(isAnswered).toBe(false);
  Atomics.store(gate, 0, 1);
  Atomics.notify(gate, 0);
  await pinged;
  await (await connecting).close();
});
