import { mkdtempSync, openSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs } from '@xenpv/test-support';
import { afterAll, expect, test } from 'vitest';
import { optionalAddon } from '../addon.js';
import { BlockOp, type ImageExtent } from '../block-image.js';
import { wholeSectorExtents } from '../extents.js';
import { allocateMemory } from '../queue/buffer.js';
import { QueueDriver } from '../testing/queue-driver.js';
import { openFileImage } from './image.js';

const MIB = 1 << 20;
const folder = mkdtempSync(join(tmpdir(), 'blockdev-extents-'));
afterAll(() => rmSync(folder, { recursive: true }));

const addon = { name: 'the native addon', met: () => optionalAddon() !== undefined };
const data = (length: number): ImageExtent => ({ length, isHole: false, isZero: false });
const hole = (length: number): ImageExtent => ({ length, isHole: true, isZero: true });

needs(addon, 'Linux').it('a file tells of its holes, of what was just written, and of its end', async () => {
  const path = join(folder, 'image');
  writeFileSync(path, '');
  truncateSync(path, 64 * MIB);
  writeSync(openSync(path, 'r+'), Buffer.alloc(4096, 1), 0, 4096, MIB);
  const image = await openFileImage(path);
  expect(await image.extents?.(0, 64 * MIB)).toEqual([hole(MIB), data(4096), hole(63 * MIB - 4096)]);
  expect(await image.extents?.(MIB + 512, 1024)).toEqual([data(1024)]);
  const driver = new QueueDriver(image.createQueue({ depth: 1, memory: allocateMemory(4096) }));
  new Uint8Array(driver.queue.memory).fill(2);
  for (let at = 8 * MIB; at < 9 * MIB; at += MIB / 4) {
    expect(await driver.run(BlockOp.write, at, 4096)).toBe(4096);
    expect(await image.extents?.(at, 8192)).toEqual([data(4096), hole(4096)]);
  }
  truncateSync(path, 4 * MIB);
  expect(await image.extents?.(3 * MIB, 2 * MIB)).toEqual([hole(2 * MIB)]);
  expect(await image.extents?.(5 * MIB, MIB)).toEqual([hole(MIB)]);
  await image.close();
});

test('a sector that is a hole in part only has data', () => {
  const parts = [hole(512), data(512), hole(7168), data(1), hole(4095)];
  expect(wholeSectorExtents(parts, 4096)).toEqual([data(4096), hole(4096), data(4096)]);
  expect(wholeSectorExtents([data(4096), hole(8192)], 4096)).toEqual([data(4096), hole(8192)]);
  const zero = { length: 6144, isHole: false, isZero: true };
  expect(wholeSectorExtents([zero, hole(6144)], 4096)).toEqual([{ ...zero, length: 4096 }, data(4096), hole(4096)]);
  expect(wholeSectorExtents([hole(100)], 512)).toEqual([data(512)]);
});
