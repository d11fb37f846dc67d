import { constants } from 'node:os';
import { describe, expect, test, vi } from 'vitest';
import { type BlockImage, BlockOp } from '../../block-image.js';
import { MemoryImage, memoryImage } from '../../memory/image.js';
import { allocateMemory } from '../../queue/buffer.js';
import { randomNumbers } from '../../testing/cases/bench.js';
import { DurabilityRecord } from '../../testing/durability.js';
import { QueueDriver } from '../../testing/queue-driver.js';
import { faultyImage } from '../faulty.js';
import { type PowerCutImage, type PowerCutOptions, powerCutImage } from './image.js';

vi.setConfig({ testTimeout: 30_000 });

const { EIO, ENOSPC } = constants.errno;
const SECTOR = 512;
const BLOCK = 2048;
const BLOCKS = 16;
const SIZE = BLOCK * BLOCKS;

function disk(options?: PowerCutOptions): {
  readonly medium: Uint8Array;
  readonly image: PowerCutImage;
  readonly driver: QueueDriver;
  readonly bytes: Uint8Array;
} {
  const inner = memoryImage({ size: SIZE });
  const image = powerCutImage(inner, options);
  const driver = driverOf(image);
  return { medium: new Uint8Array(inner.data), image, driver, bytes: new Uint8Array(driver.queue.memory) };
}

function driverOf(image: BlockImage): QueueDriver {
  return new QueueDriver(image.createQueue({ depth: 8, memory: allocateMemory(65536) }));
}

const isZero = (bytes: Uint8Array) => bytes.every((byte) => byte === 0);

test('a write is read back and on the medium only when a flush has ended', async () => {
  const { medium, image, driver, bytes } = disk();
  bytes.fill(7);
  expect(await driver.run(BlockOp.write, SECTOR, BLOCK)).toBe(BLOCK);
  expect(image.unflushedBytes).toBe(BLOCK);
  bytes.fill(0);
  expect(await driver.run(BlockOp.read, 0, 2 * BLOCK)).toBe(2 * BLOCK);
  expect([bytes.indexOf(7), bytes.lastIndexOf(7)]).toEqual([SECTOR, SECTOR + BLOCK - 1]);
  expect(isZero(medium)).toBe(true);
  expect(await driver.run(BlockOp.flush, 0, 0)).toBe(0);
  expect([medium.indexOf(7), medium.lastIndexOf(7)]).toEqual([SECTOR, SECTOR + BLOCK - 1]);
  expect(image.unflushedBytes).toBe(0);
  await image.close();
});

test('a flush covers what was answered, and not what is in flight with it', async () => {
  const { medium, image, driver, bytes } = disk();
  bytes.fill(7);
  const write = driver.push(BlockOp.write, 0, SECTOR, [[0, 0, SECTOR]]);
  const flush = driver.push(BlockOp.flush, 0, 0);
  driver.queue.submit();
  expect([await write, await flush]).toEqual([SECTOR, 0]);
  expect(isZero(medium)).toBe(true);
  await image.close();
});

test('a write with FUA is on the medium when it ends, with what was below it and no more', async () => {
  const { medium, image, driver, bytes } = disk();
  bytes.fill(3);
  expect(await driver.run(BlockOp.write, 0, 2 * SECTOR)).toBe(2 * SECTOR);
  expect(await driver.run(BlockOp.write, 8 * SECTOR, SECTOR)).toBe(SECTOR);
  bytes.fill(4);
  expect(await driver.run(BlockOp.writeFua, SECTOR, SECTOR)).toBe(SECTOR);
  expect([medium[0], medium[SECTOR], medium[8 * SECTOR]]).toEqual([3, 4, 0]);
  await image.close();
});

test('an end without a power cut loses nothing', async () => {
  const { medium, image, driver, bytes } = disk();
  bytes.fill(7);
  await driver.run(BlockOp.write, 0, BLOCK);
  await Promise.all([image.close(), image.close()]);
  expect(medium.subarray(0, BLOCK).every((byte) => byte === 7)).toBe(true);
});

test('a full cache writes its older half out', async () => {
  const { medium, image, driver, bytes } = disk({ cacheBytes: 4 * BLOCK });
  bytes.fill(7);
  for (let block = 0; block < 6; block++) await driver.run(BlockOp.write, block * BLOCK, BLOCK);
  expect(medium[0]).toBe(7);
  expect(medium[5 * BLOCK]).toBe(0);
  await vi.waitFor(() => expect(image.unflushedBytes).toBeLessThanOrEqual(4 * BLOCK));
  await image.close();
});

test('the same seed leaves the same, and others leave something else', async () => {
  const left = async (seed: number) => {
    const { medium, image, driver, bytes } = disk();
    bytes.fill(7);
    for (let block = 0; block < 8; block++) await driver.run(BlockOp.write, block * BLOCK, BLOCK);
    await Promise.all([image.cut({ seed }), image.cut({ seed: seed + 1 })]);
    await image.close();
    return Array.from({ length: SIZE / SECTOR }, (_, sector) => medium[sector * SECTOR]).join('');
  };
  const seeds = [1, 2, 3, 4, 5, 6];
  const all = await Promise.all(seeds.map(left));
  expect(await left(1)).toBe(all[0]);
  expect(new Set(all).size).toBe(seeds.length);
  // Lost, torn and whole.
  const blocks = all.flatMap((sectors) => sectors.match(/.{4}/g) ?? []);
  expect(blocks).toContain('7777');
  expect(blocks).toContain('0000');
  expect(blocks.some((block) => /07|70/.test(block))).toBe(true);
});

test('after a cut everything fails, what is in flight too, and the close does not hang', async () => {
  const { image, driver } = disk();
  const flush = driver.push(BlockOp.flush, 0, 0);
  const read = driver.push(BlockOp.read, 0, SECTOR, [[0, 0, SECTOR]]);
  driver.queue.submit();
  const cut = image.cut({ seed: 1 });
  const later = await Promise.all([
    driver.run(BlockOp.write, 0, SECTOR),
    driver.run(BlockOp.writeFua, 0, SECTOR),
    driver.run(BlockOp.flush, 0, 0),
    driver.run(BlockOp.writeZeroes, 0, SECTOR),
  ]);
  expect([await flush, await read, ...later]).toEqual([-EIO, -EIO, -EIO, -EIO, -EIO, -EIO]);
  await cut;
  await image.close();
});

test('a medium that fails a write fails the flush, which is done by the next one', async () => {
  const inner = memoryImage({ size: SIZE });
  let fails = true;
  const image = powerCutImage(
    faultyImage(inner, ({ op }) => (fails && op === BlockOp.write ? { result: -ENOSPC } : undefined)),
  );
  const driver = driverOf(image);
  expect(await driver.run(BlockOp.write, 0, SECTOR)).toBe(SECTOR);
  expect(await driver.run(BlockOp.flush, 0, 0)).toBe(-ENOSPC);
  fails = false;
  expect(image.unflushedBytes).toBe(SECTOR);
  expect(await driver.run(BlockOp.flush, 0, 0)).toBe(0);
  expect(image.unflushedBytes).toBe(0);
  await image.close();
});

/** Writes, flushes and reads from several queues until the power is cut; returns what is wrong afterwards. */
async function schedule(
  seed: number,
  shown: (image: PowerCutImage) => BlockImage = (image) => image,
): Promise<string[]> {
  const random = randomNumbers(seed);
  const record = new DurabilityRecord(BLOCKS, BLOCK);
  const inner = memoryImage({ size: SIZE });
  const power = powerCutImage(inner, { cacheBytes: random() % 2 ? 6 * BLOCK : SIZE });
  const image = shown(power);
  const faults: string[] = [];
  let left = 40 + (random() % 60);
  const lane = async (first: number) => {
    const driver = driverOf(image);
    const bytes = new Uint8Array(driver.queue.memory);
    while (left-- > 0) {
      const block = first + (random() % 4);
      const what = random() % 8;
      if (what === 0) {
        const mark = record.beginFlush();
        if ((await driver.run(BlockOp.flush, 0, 0)) === 0) record.flushed(mark);
      } else if (what === 1) {
        const result = await driver.run(BlockOp.read, block * BLOCK, BLOCK);
        const fault = record.faultWhileOn(block, bytes.subarray(0, BLOCK));
        if (result === BLOCK && fault !== undefined) faults.push(fault);
      } else {
        const write = record.write(block);
        bytes.set(write.data);
        const result = await driver.run(what === 2 ? BlockOp.writeFua : BlockOp.write, block * BLOCK, BLOCK);
        if (result !== BLOCK) return;
        if (what === 2) record.kept(write);
        else record.answered(write);
      }
    }
    // The first that has done enough cuts; the others have something in flight.
    await power.cut({ seed });
  };
  await Promise.all([0, 4, 8, 12].map(lane));
  await image.close();
  const after = new MemoryImage(inner);
  for (let block = 0; block < BLOCKS; block++) {
    const fault = record.faultOf(block, new Uint8Array(after.data, block * BLOCK, BLOCK));
    if (fault !== undefined) faults.push(fault);
  }
  return faults;
}

describe('any schedule of writes, flushes and a power cut', () => {
  const seeds = Array.from({ length: 24 }, (_, i) => i + 1);

  test('leaves all that an answered flush has covered', async () => {
    for (const seed of seeds) expect(await schedule(seed), `seed ${seed}`).toEqual([]);
  });

  test.each([
    ['flush', BlockOp.flush, 0],
    ['FUA', BlockOp.writeFua, BLOCK],
  ])('shows a lie about %s', async (_name, lie, result) => {
    const lying = (image: PowerCutImage) => faultyImage(image, ({ op }) => (op === lie ? { result } : undefined));
    let noticed = 0;
    for (const seed of seeds) if ((await schedule(seed, lying)).length > 0) noticed++;
    expect(noticed).toBeGreaterThan(seeds.length / 2);
  });
});
