import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Blkfront, BlkfrontOptions } from '@xenpv/blkfront';
import { type BlockFeatures, type BlockImage, ImageWrapper, memoryImage } from '@xenpv/blockdev';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterAll, describe, expect, it } from 'vitest';
import type { XenBlockBackendOptions } from '../options.js';
import { bytes, same } from '../testing/bytes.js';
import { attachTestDisk, type TestDisk } from '../testing/test-disk.js';

const PAGE = 4096;
const MIB = 1 << 20;
const SIZE = 2 * MIB;
const folder = mkdtempSync(join(tmpdir(), 'terms-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** What a generous process offers; a frontend takes it all. */
const generous = { maxQueues: 4, maxRingPageOrder: 4, maxIndirectSegments: 256 };
const all = { queues: 4, ringPageOrder: 4, maxIndirectSegments: 256, persistent: true };
const keys = ['multi-queue-max-queues', 'max-ring-page-order', 'max-ring-pages', 'feature-max-indirect-segments'];

/** An image whose storage can do other things. */
class Able extends ImageWrapper {
  readonly #features: Partial<BlockFeatures>;
  constructor(inner: BlockImage, features: Partial<BlockFeatures>) {
    super(inner);
    this.#features = features;
  }
  override get features(): BlockFeatures {
    return { ...this.inner.features, ...this.#features };
  }
  override share(): undefined {
    return undefined;
  }
  /** The bytes are the test's. */
  override async close(): Promise<void> {}
}

const directoryOf = (disk: TestDisk) =>
  Promise.all(keys.map((key) => disk.store.tryRead(`${disk.backendPath}/${key}`)));
const stateOf = (disk: TestDisk) => disk.store.read(`${disk.backendPath}/state`);

/** Writes the whole disk in large requests, with another restart within, and reads it. */
async function wholeDiskThrough(front: Blkfront, change: () => Promise<void>): Promise<void> {
  const writes = Array.from({ length: SIZE / MIB }, (_, i) => front.write(i * MIB, bytes(MIB, i + 1)));
  await change();
  // What a guest writes to one place while another write to it is unanswered has no order.
  await Promise.all(writes);
  await Promise.all(Array.from({ length: 64 }, (_, i) => front.write(i * PAGE, bytes(PAGE, 100 + i))));
  const data = await front.read(0, SIZE);
  for (let i = 0; i < 64; i++) expect(same(data.subarray(i * PAGE, (i + 1) * PAGE), bytes(PAGE, 100 + i))).toBe(true);
  for (let i = 1; i < SIZE / MIB; i++)
    expect(same(data.subarray(i * MIB, (i + 1) * MIB), bytes(MIB, i + 1))).toBe(true);
}

describe('a disk that is taken over by a process that offers less', () => {
  it.each<[string, Partial<XenBlockBackendOptions>]>([
    ['queues', { limits: { ...generous, maxQueues: 1 } }],
    ['pages of a ring', { limits: { ...generous, maxRingPageOrder: 0 } }],
    ['indirect segments', { limits: { ...generous, maxIndirectSegments: 16 } }],
    ['no indirect requests', { limits: { ...generous, maxIndirectSegments: 0 } }],
    ['of all', { limits: { maxQueues: 1, maxRingPageOrder: 0, maxIndirectSegments: 0 } }],
    ['memory', { limits: { ...generous, maxIndirectSegments: 11 }, memoryBytes: 128 * 1024 }],
    ['no persistent grants', { limits: generous, dataPath: 'copy' }],
  ])('serves on with less: %s', async (_, less) => {
    const journalDirectory = mkdtempSync(join(folder, 'journal-'));
    const backend = { limits: generous, dataPath: 'persistent', journalDirectory } as const;
    await using disk = await attachTestDisk({ backend });
    await using front = await disk.connect(all);
    const offered = await directoryOf(disk);
    await wholeDiskThrough(front, () => disk.restartBackend({ dataPath: 'persistent', ...less }));
    // Any number of processes: each reads what the one before left.
    await wholeDiskThrough(front, () => disk.restartBackend({ dataPath: 'persistent', ...less }));
    expect(await directoryOf(disk)).toEqual(offered);
    expect(await stateOf(disk)).toBe('4');
    expect(await disk.store.read(`${disk.backendPath}/feature-persistent`)).toBe('1');
  });

  it('offers less to the next connection of the guest, and says so in every key', async () => {
    await using disk = await attachTestDisk({ backend: { limits: generous } });
    const front = await disk.connect(all);
    await disk.restartBackend({ limits: { maxQueues: 2, maxRingPageOrder: 0, maxIndirectSegments: 0 } });
    await front.write(0, bytes(MIB));
    await front.close();
    await using again = await disk.connect(all);
    expect(await directoryOf(disk)).toEqual(['2', '0', '1', '0']);
    expect([again.queues, again.ringPageOrder, again.features.maxIndirectSegments]).toEqual([2, 0, 0]);
    expect(same(await again.read(0, MIB), bytes(MIB))).toBe(true);
  });

  it('keeps to what a guest chose from that is not connected yet', async () => {
    await using disk = await attachTestDisk({ backend: { limits: generous } });
    await expect.poll(() => stateOf(disk)).toBe('2');
    await disk.backend.close();
    // It has read InitWait, and connects whenever somebody is there.
    const connecting = disk.connect(all);
    await expect.poll(() => disk.store.read(`${disk.frontendPath}/state`)).toBe('3');
    await disk.restartBackend({ limits: { maxQueues: 1, maxRingPageOrder: 0, maxIndirectSegments: 0 } });
    await using front = await connecting;
    expect(front.queues).toBe(4);
    await front.write(0, bytes(MIB));
    expect(same(await front.read(0, MIB), bytes(MIB))).toBe(true);
  });

  it('offers more to the next connection only, too', async () => {
    await using disk = await attachTestDisk({ backend: { limits: { maxQueues: 1, maxRingPageOrder: 0 } } });
    const front = await disk.connect(all);
    const offered = await directoryOf(disk);
    await disk.restartBackend({ limits: generous });
    await front.write(0, bytes(MIB));
    expect(await directoryOf(disk)).toEqual(offered);
    await front.close();
    await using again = await disk.connect(all);
    expect([again.queues, again.ringPageOrder]).toEqual([4, 4]);
  });

  it('offers what it has when a guest began without closing while no process was there', async () => {
    await using disk = await attachTestDisk({ backend: { limits: generous } });
    const ownStore = XenstoreClient.open(await disk.guest.provider.connectXenstore());
    await disk.connect({ ...all, store: ownStore });
    await disk.backend.close();
    // A crash kernel writes Initialising over Connected.
    await ownStore.close();
    await disk.store.write(`${disk.frontendPath}/state`, 1);
    await disk.restartBackend({ limits: { maxQueues: 2, maxRingPageOrder: 0, maxIndirectSegments: 0 } });
    await expect.poll(() => stateOf(disk)).toBe('2');
    expect(await directoryOf(disk)).toEqual(['2', '0', '1', '0']);
    await using front = await disk.connect(all);
    expect(front.queues).toBe(2);
  });
});

describe('what a guest was told of its disk', () => {
  /** Connected under the first options and image, taken over under the second. */
  async function takenOver(
    first: Partial<XenBlockBackendOptions>,
    second: Partial<XenBlockBackendOptions>,
    options: Partial<BlkfrontOptions> = {},
  ) {
    const disk = await attachTestDisk({ backend: first });
    const front = await disk.connect(options);
    await disk.restartBackend(second);
    return { disk, front };
  }

  const image = (features: Partial<BlockFeatures>, sectorSize = 512) => {
    const memory = memoryImage({ size: SIZE, sectorSize });
    return { openImage: async () => new Able(memory, features) };
  };

  it('its sectors stay small when the configuration says that they are as large as those of the storage', async () => {
    const large = image({}, 4096);
    const { disk, front } = await takenOver({ ...large, sectorSize: 512 }, { sectorSize: 'image' });
    await front.write(512, bytes(512, 1));
    await front.write(1536, bytes(1024, 2));
    expect(same(await front.read(512, 512), bytes(512, 1))).toBe(true);
    expect(await disk.store.read(`${disk.backendPath}/sector-size`)).toBe('512');
    await front.close();
    await using again = await disk.connect();
    expect(again.sectorSize).toBe(4096);
    expect(same((await again.read(0, 4096)).subarray(1536, 2560), bytes(1024, 2))).toBe(true);
    await again.close();
    await disk[Symbol.asyncDispose]();
  });

  it.each([
    ['the configuration', 4096],
    ['the storage', 512],
  ])('its sectors stay large when those of %s are small', async (_, sectorSize) => {
    const second = { ...image({}, sectorSize), sectorSize: 512 } as const;
    const { disk, front } = await takenOver({ ...image({}, 4096), sectorSize: 'image' }, second);
    await front.write(8192, bytes(4096, 3));
    expect(same(await front.read(8192, 4096), bytes(4096, 3))).toBe(true);
    expect(await disk.store.read(`${disk.backendPath}/sector-size`)).toBe('4096');
    await front.close();
    await using again = await disk.connect();
    expect(again.sectorSize).toBe(512);
    expect(same(await again.read(8192, 4096), bytes(4096, 3))).toBe(true);
    await again.close();
    await disk[Symbol.asyncDispose]();
  });

  it('flush and barrier are refused as unsupported by storage that cannot', async () => {
    const { disk, front } = await takenOver(image({ flush: true }), image({ flush: false }));
    await front.write(0, bytes(PAGE));
    await expect(front.flush()).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    expect(same(await front.read(0, PAGE), bytes(PAGE))).toBe(true);
    expect(await stateOf(disk)).toBe('4');
    await front.close();
    await disk[Symbol.asyncDispose]();
  });

  it.each([
    ['discard', { discard: true }, { discard: false }, {}],
    [
      'a secure discard is never a plain one',
      { discard: true, secureDiscard: true },
      { discard: true },
      { secure: true },
    ],
  ])('%s: refused as unsupported by storage that cannot', async (_, could, can, options) => {
    const none = { discard: false, secureDiscard: false };
    const { disk, front } = await takenOver(image({ ...none, ...could }), image({ ...none, ...can }));
    await front.write(0, bytes(PAGE));
    await expect(front.discard(0, PAGE, options)).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    expect(same(await front.read(0, PAGE), bytes(PAGE))).toBe(true);
    // Nor by a third process, which sees only what the second left.
    await disk.restartBackend(image({ ...none, ...can }));
    await expect(front.discard(0, PAGE, options)).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    expect(await stateOf(disk)).toBe('4');
    await front.close();
    await disk[Symbol.asyncDispose]();
  });

  it('a disk that became read-only refuses writes and serves reads', async () => {
    const { disk, front } = await takenOver({}, {});
    await front.write(0, bytes(PAGE));
    await disk.backend.close();
    await disk.store.write(`${disk.backendPath}/mode`, 'r');
    await disk.restartBackend();
    await expect(front.write(0, bytes(PAGE, 9))).rejects.toThrow();
    expect(same(await front.read(0, PAGE), bytes(PAGE))).toBe(true);
    expect(await stateOf(disk)).toBe('4');
    await front.close();
    await disk[Symbol.asyncDispose]();
  });

  it('grants of a guest that was told that none stay mapped are never kept, though it offers that', async () => {
    const { disk, front } = await takenOver({ dataPath: 'copy' }, { dataPath: 'persistent' }, { persistent: true });
    await front.write(0, bytes(MIB));
    expect(same(await front.read(0, MIB), bytes(MIB))).toBe(true);
    expect(disk.guest.usage().mapped).toBe(2 ** front.ringPageOrder);
    expect(await disk.store.read(`${disk.backendPath}/feature-persistent`)).toBe('0');
    await front.close();
    await using again = await disk.connect({ persistent: true });
    expect(again.features.persistent).toBe(true);
    await again.close();
    await disk[Symbol.asyncDispose]();
  });
});
