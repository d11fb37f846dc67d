import { constants } from 'node:os';
import { expect, test } from 'vitest';
import { type BlockImage, BlockOp } from '../block-image.js';
import { memoryImage } from '../memory/image.js';
import { allocateMemory } from '../queue/buffer.js';
import { QueueDriver } from '../testing/queue-driver.js';
import { faultyImage } from './faulty.js';
import { ImageWrapper } from './image-wrapper.js';
import { rmwImage } from './rmw.js';
import { throttledImage } from './throttled.js';

const { EIO } = constants.errno;

function drive(image: BlockImage, depth = 8) {
  const driver = new QueueDriver(image.createQueue({ depth, memory: allocateMemory(65536) }));
  return { driver, bytes: new Uint8Array(driver.queue.memory) };
}

test('a wrapper is the image that it wraps, and closes it once', async () => {
  const inner = memoryImage({ size: 65536, sectorSize: 4096, readOnly: true });
  let closed = 0;
  class Named extends ImageWrapper {
    override get description(): string {
      return 'mine';
    }

    protected override async closeOnce(): Promise<void> {
      closed++;
      await super.closeOnce();
    }
  }
  const image = new Named(inner);
  const { engine, size, sectorSize, physicalSectorSize, readOnly, features } = image;
  expect({ engine, size, sectorSize, physicalSectorSize, readOnly, features }).toEqual({
    engine: inner.engine,
    size: inner.size,
    sectorSize: inner.sectorSize,
    physicalSectorSize: inner.physicalSectorSize,
    readOnly: inner.readOnly,
    features: inner.features,
  });
  expect(image.description).toBe('mine');
  expect(image.share()).toEqual(inner.share());
  expect(await image.refresh()).toBe(inner.size);
  const { driver } = drive(image);
  expect(await driver.run(BlockOp.read, 0, 4096)).toBe(4096);
  await Promise.all([image.close(), image.close(), image[Symbol.asyncDispose]()]);
  expect(closed).toBe(1);
  expect(() => driver.queue.push(BlockOp.flush, 0, 0, 0, new Float64Array(0), 0)).toThrow('closed');
});

test('a planned fault hits the planned operation only', async () => {
  const image = faultyImage(memoryImage({ size: 65536 }), ({ index }) => (index === 1 ? { result: -EIO } : undefined));
  const { driver } = drive(image);
  expect(await driver.run(BlockOp.read, 0, 4096)).toBe(4096);
  expect(await driver.run(BlockOp.read, 0, 4096)).toBe(-EIO);
  expect(await driver.run(BlockOp.read, 0, 4096)).toBe(4096);
});

test('a torn write leaves its first part', async () => {
  const inner = memoryImage({ size: 65536 });
  const image = faultyImage(inner, ({ op }) => (op === BlockOp.write ? { result: -EIO, torn: 1024 } : undefined));
  const { driver, bytes } = drive(image);
  bytes.fill(3);
  const done = driver.push(BlockOp.write, 0, 4096, [
    [0, 8192, 512],
    [0, 0, 3584],
  ]);
  driver.queue.submit();
  expect(await done).toBe(-EIO);
  const content = new Uint8Array(inner.data);
  expect(content.findIndex((byte) => byte !== 3)).toBe(1024);
});

test('a delayed operation is overtaken, and close waits for it', async () => {
  const image = faultyImage(memoryImage({ size: 65536 }), ({ index }) => (index === 0 ? { delay: 30 } : undefined));
  const { driver } = drive(image);
  const order: number[] = [];
  const first = driver.run(BlockOp.read, 0, 512).then(() => order.push(0));
  const second = driver.run(BlockOp.read, 0, 512).then(() => order.push(1));
  await driver.queue.close();
  await Promise.all([first, second]);
  expect(order).toEqual([1, 0]);
});

test('writes to parts of one sector do not undo each other', async () => {
  const inner = memoryImage({ size: 65536, sectorSize: 4096 });
  // The reads of the edges take long enough for every write to be in flight.
  const slow = faultyImage(inner, ({ op }) => (op === BlockOp.read ? { delay: 2 } : undefined));
  const { driver, bytes } = drive(rmwImage(slow), 16);
  const writes = Array.from({ length: 16 }, (_, i) => {
    bytes.fill(i + 1, i * 512, (i + 1) * 512);
    return driver.push(i % 2 ? BlockOp.writeFua : BlockOp.write, i * 512, 512, [[0, i * 512, 512]]);
  });
  driver.queue.submit();
  for (const write of writes) expect(await write).toBe(512);
  const content = new Uint8Array(inner.data);
  for (let i = 0; i < 16; i++)
    expect(content.subarray(i * 512, (i + 1) * 512).every((byte) => byte === i + 1)).toBe(true);
  expect(content.subarray(16 * 512).every((byte) => byte === 0)).toBe(true);
});

test('a write whose edge cannot be read fails and frees its sectors', async () => {
  const inner = memoryImage({ size: 65536, sectorSize: 4096 });
  const image = rmwImage(faultyImage(inner, ({ index }) => (index === 0 ? { result: -EIO } : undefined)));
  const { driver } = drive(image);
  expect(await driver.run(BlockOp.write, 512, 512)).toBe(-EIO);
  expect(await driver.run(BlockOp.write, 512, 512)).toBe(512);
});

test('a discard keeps the parts of sectors at its ends', async () => {
  const inner = memoryImage({ data: new Uint8Array(65536).fill(9), sectorSize: 4096 });
  const { driver } = drive(rmwImage(inner));
  expect(await driver.run(BlockOp.discard, 512, 12288)).toBe(0);
  const content = new Uint8Array(inner.data);
  expect(content.subarray(0, 4096).every((byte) => byte === 9)).toBe(true);
  expect(content.subarray(4096, 12288).every((byte) => byte === 0)).toBe(true);
  expect(content.subarray(12288).every((byte) => byte === 9)).toBe(true);
  expect(await driver.run(BlockOp.discard, 512, 512)).toBe(0);
});

test('sectors that do not fit are refused', () => {
  expect(() => rmwImage(memoryImage({ size: 65536 }), 4096)).toThrow(/do not fit/);
});

test('an image that is closed waits for what its wrapper holds back', async () => {
  const image = faultyImage(memoryImage({ size: 65536 }), () => ({ delay: 20 }));
  const { driver } = drive(image);
  const read = driver.run(BlockOp.read, 0, 512);
  await image.close();
  expect(await read).toBe(512);
});

test('a throttled image keeps to its average', async () => {
  const image = throttledImage(memoryImage({ size: 65536 }), { operationsPerSecond: 200, burst: 0.01 });
  const { driver } = drive(image);
  const start = performance.now();
  for (let i = 0; i < 12; i++) await driver.run(BlockOp.read, 0, 512);
  // Two of the twelve are the burst.
  expect(performance.now() - start).toBeGreaterThan(40);
});
