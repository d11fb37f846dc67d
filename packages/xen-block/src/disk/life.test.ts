import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openFileImage } from '@xenpv/blockdev';
import { XenstoreClient } from '@xenpv/xenstore';
import { describe, expect, it } from 'vitest';
import { bytes, same } from '../testing/bytes.js';
import { attachTestDisk } from '../testing/test-disk.js';

const MIB = 1 << 20;
const code = (name: string) => expect.objectContaining({ code: name });
describe('life', () => {
  const states = async (disk: Awaited<ReturnType<typeof attachTestDisk>>) => [
    await disk.store.tryRead(`${disk.frontendPath}/state`),
    await disk.store.tryRead(`${disk.backendPath}/state`),
  ];

  it('closes when all is done, and leaves nothing', async () => {
    await using disk = await attachTestDisk();
    const before = disk.guest.usage();
    const front = await disk.connect();
    expect(await states(disk)).toEqual(['4', '4']);
    const write = front.write(0, bytes(MIB));
    await front.close();
    await write;
    await front.closed;
    expect(await states(disk)).toEqual(['6', '6']);
    expect(disk.guest.usage()).toEqual(before);
    await expect(front.read(0, 512)).rejects.toThrow(code('ERR_CLOSED'));
    await expect(front.flush()).rejects.toThrow(code('ERR_CLOSED'));
    await front.close();
  });

  it('connects again with another ABI, order and number of queues', async () => {
    await using disk = await attachTestDisk({ backend: { limits: { maxQueues: 3 } } });
    const abis = ['x86_32', 'x86_64', 'arm'] as const;
    for (let i = 0; i < 9; i++) {
      await using front = await disk.connect({ abi: abis[i % 3], ringPageOrder: i % 5, queues: 1 + (i % 3) });
      if (i > 0) expect(same(await front.read(0, 65536), bytes(65536, i - 1))).toBe(true);
      await front.write(0, bytes(65536, i));
    }
  });

  it('takes over from a kernel that is gone without a word', async () => {
    await using disk = await attachTestDisk();
    const ownStore = XenstoreClient.open(await disk.guest.provider.connectXenstore());
    const first = await disk.connect({ store: ownStore, ringPageOrder: 0, abi: 'x86_32' });
    await first.write(0, bytes(4096));
    await ownStore.close();
    await first.closed;
    expect(await states(disk)).toEqual(['4', '4']);
    await using second = await disk.connect();
    expect(same(await second.read(0, 4096), bytes(4096))).toBe(true);
  });

  it('closes when the toolstack detaches the disk, after what is in flight', async () => {
    await using disk = await attachTestDisk();
    const front = await disk.connect();
    const writes = Array.from({ length: 100 }, (_, i) => front.write(i * 4096, bytes(4096)));
    await Promise.all([disk.host.toolstack.detachDisk(disk.guest.domid, 'xvda'), ...writes]);
    await front.closed;
    await expect(front.read(0, 512)).rejects.toThrow(code('ERR_CLOSED'));
    expect(await states(disk)).toEqual([undefined, undefined]);
  });

  it('closes when the toolstack removes the disk by force', async () => {
    await using disk = await attachTestDisk();
    const front = await disk.connect();
    await disk.host.toolstack.detachDisk(disk.guest.domid, 'xvda', { force: true });
    await front.closed;
    expect(await states(disk)).toEqual([undefined, undefined]);
  });

  it('goes on with the next backend process', async () => {
    await using disk = await attachTestDisk();
    await using front = await disk.connect({ ringPageOrder: 0 });
    const writes = Array.from({ length: 200 }, (_, i) => front.write(i * 4096, bytes(4096, i)));
    await disk.restartBackend();
    await Promise.all(writes);
    const reads = await Promise.all(Array.from({ length: 200 }, (_, i) => front.read(i * 4096, 4096)));
    expect(reads.every((data, i) => same(data, bytes(4096, i)))).toBe(true);
  });

  it('hears of another size', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'blkfront-'));
    const path = join(folder, 'image');
    await writeFile(path, bytes(MIB));
    const image = await openFileImage(path, {});
    await using disk = await attachTestDisk({ image });
    const sizes: number[] = [];
    let tell = () => {};
    const onResize = (size: number) => {
      sizes.push(size);
      tell();
    };
    await using front = await disk.connect({ onResize });
    for (const size of [2 * MIB, MIB / 2]) {
      await truncate(path, size);
      const told = new Promise<void>((resolve) => {
        tell = resolve;
      });
      for (const device of disk.backend.devices) await device.refresh({ mayShrink: true });
      await told;
      expect(front.size).toBe(size);
    }
    expect(sizes).toEqual([2 * MIB, MIB / 2]);
    await rm(folder, { recursive: true });
  });
});
