import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { allocateMemory, BlockOp, memoryImage, openFileImage } from './index.js';

const folder = mkdtempSync(join(tmpdir(), 'blockdev-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('a read and a write through each engine', async () => {
  const path = join(folder, 'disk.img');
  writeFileSync(path, new Uint8Array(1 << 20).fill(7));
  const images = [memoryImage({ data: new Uint8Array(1 << 20).fill(7) }), await openFileImage(path)];
  for (const image of images) {
    const memory = allocateMemory(65536);
    const queue = image.createQueue({ depth: 4, memory });
    const bytes = new Uint8Array(memory);
    const done: number[] = [];
    await new Promise<void>((resolve) => {
      queue.onComplete((tags, results, count) => {
        for (let i = 0; i < count; i++) done.push(tags[i], results[i]);
        if (queue.inFlight === 0) resolve();
      });
      bytes.fill(9, 8192, 8192 + 1024);
      queue.push(BlockOp.read, 1, 4096, 4096, Float64Array.of(0, 0, 4096), 1);
      queue.push(BlockOp.writeFua, 2, 8192, 1024, Float64Array.of(0, 8704, 512, 0, 8192, 512), 2);
      queue.submit();
    });
    expect(bytes[0]).toBe(7);
    expect(bytes[4095]).toBe(7);
    expect(done.sort()).toEqual([1, 1024, 2, 4096]);
    await queue.close();
    await image.close();
  }
});
