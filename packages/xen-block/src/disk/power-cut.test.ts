import type { Blkfront } from '@xenpv/blkfront';
import { type BlockImage, BlockOp, faultyImage, MemoryImage, type PowerCutImage, powerCutImage } from '@xenpv/blockdev';
import { DurabilityRecord } from '@xenpv/blockdev/testing';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { DataPath } from '../plane/rings/ring-options.js';
import { TestHost } from '../testing/host.js';

vi.setConfig({ testTimeout: 30_000 });

const BLOCK = 8192;
const BLOCKS = 24;
/** Each writes blocks of its own, so that no two writes of a block are in flight together. */
const LANES = 6;
const OPERATIONS = 150;

interface Schedule {
  readonly seed: number;
  /** What the backend has for the disk. */
  readonly shown?: (image: PowerCutImage) => BlockImage;
}

/** Numbers below `limit`, the same for the same seed. */
function randomFrom(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

async function work(disk: Blkfront, record: DurabilityRecord, block: number, what: number): Promise<void> {
  if (what === 0) {
    const mark = record.beginFlush();
    await disk.flush();
    record.flushed(mark);
    return;
  }
  const mark = record.beginFlush();
  const write = record.write(block);
  const mode = what === 1 ? 'flush' : what === 2 ? 'barrier' : 'plain';
  await disk.write(block * BLOCK, write.data, { mode });
  if (mode === 'barrier') record.kept(write);
  else record.answered(write);
  // A flush with data is a flush, then a write; a barrier is on the medium itself.
  if (mode !== 'plain') record.flushed(mark);
}

describe.each<[DataPath | 'persistent', number]>([
  ['copy', 1],
  ['copy', 3],
  ['map', 1],
  ['persistent', 2],
])('storage loses its power, with data path %s and %i queues', (dataPath, queues) => {
  let host: TestHost;
  beforeAll(async () => {
    host = await TestHost.start({ dataPath, limits: { maxQueues: queues } });
  });
  afterAll(() => host[Symbol.asyncDispose]());

  /** Guests write, flush and use barriers until the power is cut; returns what is missing afterwards. */
  async function schedule({ seed, shown = (image) => image }: Schedule): Promise<string[]> {
    const random = randomFrom(seed);
    const data = new SharedArrayBuffer(BLOCKS * BLOCK);
    const medium = () => new MemoryImage({ data, sectorSize: 512, readOnly: false });
    const power = powerCutImage(medium(), { cacheBytes: (4 + random(BLOCKS)) * BLOCK });
    const record = new DurabilityRecord(BLOCKS, BLOCK);
    const target = `disk-${seed}`;
    host.images.set(target, () => shown(power));
    const guest = await host.guest();
    const disk = await guest.connect({ queues, ringPageOrder: 0, persistent: dataPath === 'persistent' }, { target });
    let left = 20 + random(OPERATIONS);
    await Promise.all(
      Array.from({ length: LANES }, async (_, lane) => {
        try {
          while (left-- > 0) {
            await work(disk, record, lane + LANES * random(BLOCKS / LANES), random(8));
          }
        } catch {
          // The power is off.
        }
        await power.cut({ seed });
      }),
    );
    await disk.close();
    await guest.detach();
    host.images.set(target, medium);
    const again = await guest.connect({ queues: 1 }, { target });
    const faults: string[] = [];
    for (let block = 0; block < BLOCKS; block++) {
      const fault = record.faultOf(block, await again.read(block * BLOCK, BLOCK));
      if (fault !== undefined) faults.push(fault);
    }
    await again.close();
    await guest.destroy();
    return faults;
  }

  it('has all that a guest knows to be flushed when it is back', async () => {
    for (let seed = 1; seed <= 4; seed++) expect(await schedule({ seed }), `seed ${seed}`).toEqual([]);
  });

  it('and a flush that lies is noticed', async () => {
    const shown = (image: PowerCutImage) =>
      faultyImage(image, ({ op }) => (op === BlockOp.flush ? { result: 0 } : undefined));
    let noticed = 0;
    for (let seed = 1; seed <= 4; seed++) if ((await schedule({ seed, shown })).length > 0) noticed++;
    expect(noticed).toBeGreaterThan(0);
  });
});
