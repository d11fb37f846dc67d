/**
 * What security advisories told of other block backends, and what QEMU's had to learn: docs/security.md and docs/faults.md
 * list them.
 */
import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Blkfront } from '@xenpv/blkfront';
import { rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, BlkifStatus, RequestWriter } from '@xenpv/blkif';
import { faultyImage, memoryImage, openFileImage } from '@xenpv/blockdev';
import { needs } from '@xenpv/test-support';
import { expect, it, onTestFinished, vi } from 'vitest';
import { TestHost } from './testing/host.js';
import { attachTestDisk, type TestDisk } from './testing/test-disk.js';

const PAGE = 4096;
const { write, writeBarrier, flushDiskcache, read } = BlkifOp;

/** The status of a request of whole pages. */
async function statusOf(front: Blkfront, operation: number, grefs: readonly number[]): Promise<number> {
  const raw = rawQueue(front);
  const words = new Int32Array(raw.abi.slotWords);
  const request = new RequestWriter(words, raw.abi);
  request.readWrite(operation, grefs.length, 1, 0, 0);
  for (const [i, gref] of grefs.entries()) request.segment(i, gref, 0, 7);
  return (await raw.request(words)).status;
}

const stateOf = (disk: TestDisk) => disk.store.read(`${disk.backendPath}/state`);

it.each(['r', '', undefined])(
  'XSA-142: a disk whose mode is %j is not written, whatever its guest asks',
  async (mode) => {
    const image = memoryImage({ size: 1 << 20 });
    await using disk = await attachTestDisk({ image });
    if (mode === undefined) await disk.store.remove(`${disk.backendPath}/mode`);
    else await disk.store.write(`${disk.backendPath}/mode`, mode);
    const front = await disk.connect();
    const page = rawQueue(front).page();
    page.bytes.fill(0xaa);
    for (const operation of [write, writeBarrier, flushDiskcache]) {
      expect(await statusOf(front, operation, [page.gref])).not.toBe(BlkifStatus.okay);
    }
    expect((await front.read(0, PAGE)).every((byte) => byte === 0)).toBe(true);
    await front.close();
  },
);

it('XSA-350: connections that come and go as fast as the guest can write leave one disk that works', async () => {
  await using disk = await attachTestDisk();
  const front = await disk.connect();
  const path = `${disk.frontendPath}/state`;
  await Promise.all(Array.from({ length: 300 }, (_, i) => disk.store.write(path, [5, 6, 1, 3, 4][i % 5])));
  await disk.store.write(path, 6);
  await vi.waitFor(async () => expect(await stateOf(disk)).toBe('6'), { timeout: 20_000 });
  await front.close();
  await using again = await disk.connect();
  await again.write(0, new Uint8Array(PAGE).fill(7));
  expect((await again.read(0, PAGE))[0]).toBe(7);
  await again.close();
  await vi.waitFor(() => expect(disk.guest.usage()).toMatchObject({ mapped: 0, grants: 0, ports: 0 }));
});

it.each(['map', 'persistent'] as const)(
  'XSA-361, 362, 365, 371: of a batch of which one grant fails nothing is used, and nothing stays mapped, by %s',
  async (dataPath) => {
    const image = memoryImage({ size: 1 << 20 });
    await using disk = await attachTestDisk({ image, backend: { dataPath } });
    const front = await disk.connect({ persistent: dataPath === 'persistent' });
    const pages = Array.from({ length: 10 }, () => rawQueue(front).page());
    for (const page of pages) page.bytes.fill(0xee);
    const good = pages.map(({ gref }) => gref);
    for (let bad = 0; bad <= good.length; bad++) {
      const grefs = [...good.slice(0, bad), 0x7ffffff0 + bad, ...good.slice(bad)];
      for (const operation of [write, read]) expect(await statusOf(front, operation, grefs)).toBe(BlkifStatus.error);
    }
    expect((await front.read(0, PAGE)).every((byte) => byte === 0)).toBe(true);
    expect(pages.every(({ bytes }) => bytes.every((byte) => byte === 0xee))).toBe(true);
    expect(await statusOf(front, write, good)).toBe(BlkifStatus.okay);
    for (const page of pages) page.release();
    await front.close();
    await vi.waitFor(() => expect(disk.guest.usage()).toMatchObject({ mapped: 0, grants: 0, ports: 0 }));
  },
);

it('XSA-403: whether a guest trusts its backend is the toolstack’s to say: the key is left as it is', async () => {
  await using disk = await attachTestDisk();
  await disk.store.write(`${disk.frontendPath}/trusted`, '0');
  const front = await disk.connect();
  await front.write(0, new Uint8Array(PAGE));
  await front.close();
  expect(await disk.store.read(`${disk.frontendPath}/trusted`)).toBe('0');
});

it.each([
  ['unless it is asked for, storage gets copies and no page of a request is mapped', undefined, 0],
  ['where it is asked for, all of them are', 'map', 11],
] as const)('XSA-229: grants are mapped while storage has them: %s', async (_, dataPath, pages) => {
  const seen: number[] = [];
  const mapped = () => disk.guest.usage().mapped;
  const image = faultyImage(memoryImage({ size: 1 << 20 }), () => {
    seen.push(mapped());
    return undefined;
  });
  await using disk = await attachTestDisk({ image, backend: dataPath ? { dataPath } : {} });
  await using front = await disk.connect();
  const atRest = mapped();
  await front.write(0, new Uint8Array(11 * PAGE));
  await front.read(0, 11 * PAGE);
  expect(atRest).toBeGreaterThan(0);
  expect(seen).toEqual([atRest + pages, atRest + pages]);
});

/** How many descriptors this process has of a file. */
function descriptorsOf(path: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      // The one of the listing itself.
      return false;
    }
  }).length;
}

needs('Linux').it(
  'QEMU b807ca3fa0: an image is closed when its disk is detached, each time, when the toolstack has done that',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'xen-block-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'disk');
    writeFileSync(path, new Uint8Array(1 << 20));
    await using host = await TestHost.start({ openImage: ({ target }) => openFileImage(target, {}) });
    const guest = await host.guest();
    for (let round = 0; round < 5; round++) {
      const front = await guest.connect({}, { target: path });
      await front.write(0, new Uint8Array(PAGE));
      expect(descriptorsOf(path)).toBeGreaterThan(0);
      const closing = front.close();
      await guest.detach();
      expect(descriptorsOf(path)).toBe(0);
      await closing;
    }
  },
);

it('QEMU 9000666052: a disk that is drained, as often as you like, is detached and attached, and a backend with one ends', async () => {
  await using host = await TestHost.start();
  const guest = await host.guest();
  const front = await guest.connect();
  for (let i = 0; i < 3; i++) await host.device.drain();
  await Promise.all([guest.detach(), front.close()]);
  const again = await guest.connect();
  await again.write(0, new Uint8Array(PAGE));
  await host.device.drain();
  await host.backend.close();
  await host.backend.close();
  await host.startBackend();
  expect(await again.read(0, PAGE)).toHaveLength(PAGE);
  await again.close();
});
