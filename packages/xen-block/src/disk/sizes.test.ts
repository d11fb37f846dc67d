import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Blkfront } from '@xenpv/blkfront';
import { nullImage, type OddSize, openFileImage } from '@xenpv/blockdev';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type TestGuest, TestHost } from '../testing/host.js';

const MIB = 1 << 20;
const folder = mkdtempSync(join(tmpdir(), 'xen-block-'));
const path = join(folder, 'image');
afterAll(() => rmSync(folder, { recursive: true }));

const oddSizes: OddSize[] = [];
const onOddSize = (message: unknown) => oddSizes.push(message as OddSize);

describe.each([0, 2])('images of any size, on %i threads', (threads) => {
  let host: TestHost;
  let guest: TestGuest;

  beforeEach(async () => {
    oddSizes.length = 0;
    subscribe('blockdev:image:odd-size', onOddSize);
    host = await TestHost.start({ threads, openImage: ({ target, readOnly }) => openFileImage(target, { readOnly }) });
    guest = await host.guest();
  });

  afterEach(async () => {
    unsubscribe('blockdev:image:odd-size', onOddSize);
    await host[Symbol.asyncDispose]();
  });

  function connect(size: number, disk = {}, onResize?: (size: number) => void): Promise<Blkfront> {
    writeFileSync(path, Buffer.alloc(size, 1));
    return guest.connect(
      { ...(onResize ? { onResize } : {}), signal: AbortSignal.timeout(5000) },
      { target: path, ...disk },
    );
  }

  it.each([
    ['disk', MIB + 100, MIB],
    ['disk', MIB + 511, MIB],
    ['disk', 513, 512],
    ['cdrom', MIB + 100, MIB],
    ['disk', MIB + 512, MIB + 512],
  ] as const)('a %s of %i bytes has %i, and this is said once', async (deviceType, size, served) => {
    const disk = await connect(size, { deviceType });
    expect(disk.size).toBe(served);
    expect(await disk.read(served - 512, 512)).toHaveLength(512);
    await expect(disk.read(served, 512)).rejects.toThrow();
    await host.backend.refresh();
    await host.backend.refresh();
    expect(disk.size).toBe(served);
    expect(oddSizes.map(({ size, served }) => [size, served])).toEqual(size === served ? [] : [[size, served]]);
    await disk.close();
  });

  it('a disk that grows to an odd size has its whole sectors, up to the last one', async () => {
    const disk = await connect(MIB);
    truncateSync(path, 2 * MIB + 511);
    await host.backend.refresh();
    await expect.poll(() => disk.size).toBe(2 * MIB);
    expect(oddSizes.map(({ size, served }) => [size, served])).toEqual([[2 * MIB + 511, 2 * MIB]]);
    await disk.write(2 * MIB - 512, new Uint8Array(512).fill(9));
    expect((await disk.read(2 * MIB - 512, 512))[0]).toBe(9);
    await disk.close();
  });

  it('a disk whose image shrank is as it was, until it may shrink', async () => {
    const disk = await connect(2 * MIB);
    truncateSync(path, MIB);
    const refused = host.backend.refresh();
    await expect(refused).rejects.toMatchObject({ name: 'XenBlockError', code: 'EINVAL', op: 'refresh' });
    await expect(refused).rejects.toThrow(`${path} shrank from ${2 * MIB} to ${MIB} bytes`);
    expect(disk.size).toBe(2 * MIB);
    await disk.write(2 * MIB - 512, new Uint8Array(512));
    await host.backend.refresh();
    truncateSync(path, MIB + 1);
    await host.device.refresh({ mayShrink: true });
    await expect.poll(() => disk.size).toBe(MIB);
    await expect(disk.write(MIB, new Uint8Array(512))).rejects.toThrow();
    await disk.close();
  });

  it.each([0, 100])('a disk is not served when its image has %i bytes, nor cut to that', async (size) => {
    const disk = await connect(MIB);
    truncateSync(path, size);
    for (const mayShrink of [false, true]) await expect(host.device.refresh({ mayShrink })).rejects.toThrow(path);
    expect(disk.size).toBe(MIB);
    await disk.close();
    await guest.detach();
    const error = `/local/domain/0/error/backend/qdisk/${guest.domid}/51712/error`;
    await guest.attach({ target: path });
    await expect.poll(() => host.store.tryRead(error)).toContain(`${path} `);
  });

  it('a file that grows behind its back is noticed, and one that shrinks is not', async () => {
    await host.backend.close();
    await host.startBackend({ threads, growthMs: 50, stallMs: 400, openImage: ({ target }) => openFileImage(target) });
    const disk = await connect(MIB);
    truncateSync(path, 2 * MIB);
    await expect.poll(() => disk.size).toBe(2 * MIB);
    await disk.write(2 * MIB - 512, new Uint8Array(512).fill(9));
    truncateSync(path, MIB);
    truncateSync(path, 3 * MIB);
    await expect.poll(() => disk.size).toBe(3 * MIB);
    truncateSync(path, MIB);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(disk.size).toBe(3 * MIB);
    truncateSync(path, 3 * MIB);
    await disk.close();
  });

  it('others are refreshed although one has shrunk', async () => {
    const disk = await connect(MIB);
    const other = join(folder, 'other');
    writeFileSync(other, Buffer.alloc(MIB));
    const second = await guest.connect({}, { vdev: 'xvdb', target: other });
    truncateSync(path, 512);
    truncateSync(other, 2 * MIB);
    await expect(host.backend.refresh()).rejects.toThrow(`${path} shrank`);
    await expect.poll(() => second.size).toBe(2 * MIB);
    await second.close();
    await disk.close();
  });

  it('an empty file is an empty drive, which a refresh fills and empties', async () => {
    const cdrom = await connect(0, { deviceType: 'cdrom', readOnly: true });
    expect(cdrom.size).toBe(0);
    await host.backend.refresh();
    expect(cdrom.size).toBe(0);
    writeFileSync(path, Buffer.alloc(MIB + 7, 5));
    await host.backend.refresh();
    await expect.poll(() => cdrom.size).toBe(MIB);
    expect((await cdrom.read(MIB - 512, 512))[0]).toBe(5);
    truncateSync(path, 0);
    await expect(host.device.refresh()).rejects.toThrow('is empty');
    await host.device.refresh({ mayShrink: true });
    await expect.poll(() => cdrom.size).toBe(0);
    await cdrom.close();
  });
});

describe('QEMU 15f084505a: a discard of a large disk', () => {
  const SIZE = 2 ** 42;
  const cases = [2 ** 31 - 512, 2 ** 31, 2 ** 32, 2 ** 32 + 512, 2 ** 40, SIZE].flatMap((length) =>
    [false, true].map((secure) => [length, secure] as const),
  );

  it.each(cases)('of %i bytes succeeds, secure: %s', async (length, secure) => {
    const host = await TestHost.start({ openImage: async () => nullImage({ size: SIZE }) });
    const guest = await host.guest();
    const disk = await guest.connect();
    await disk.discard(0, length, { secure });
    await disk.discard(SIZE - length, length, { secure });
    await disk.close();
    await host[Symbol.asyncDispose]();
  });
});
