/** What security advisories told of other block backends: docs/security.md lists them. */
import type { Blkfront } from '@xenpv/blkfront';
import { rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, BlkifStatus, RequestWriter } from '@xenpv/blkif';
import { memoryImage } from '@xenpv/blockdev';
import { expect, it, vi } from 'vitest';
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
  'XSA-361, 365, 371: of a batch of which one grant fails nothing is used, and nothing stays mapped, by %s',
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
