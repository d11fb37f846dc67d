import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs } from '@xenpv/test-support';
import { afterAll, expect, vi } from 'vitest';
import { BlockOp } from '../block-image.js';
import { openFileImage } from '../file/image.js';
import { allocateMemory } from '../queue/buffer.js';
import { threadRing } from './thread-ring.js';

const folder = mkdtempSync(join(tmpdir(), 'blockdev-'));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'disk.img');
writeFileSync(path, new Uint8Array(1 << 20).fill(7));

const uring = { name: 'io_uring', met: () => typeof threadRing() !== 'string' };

needs(uring).it('H3: what is started within a delivery, and never polled for, ends too', async () => {
  await using image = await openFileImage(path, { engine: 'io_uring', direct: false });
  await using queue = image.createQueue({ depth: 4, memory: allocateMemory(4096) });
  const iov = Float64Array.of(0, 0, 4096);
  const ended: number[] = [];
  queue.onComplete((tags, results, count) => {
    for (let i = 0; i < count; i++) expect(results[i]).toBe(4096);
    ended.push(...tags.subarray(0, count));
    if (ended.length >= 20) return;
    // A cached page: the kernel is done before the call is, and was told not to signal that.
    queue.push(BlockOp.read, ended.length, 0, 4096, iov, 1);
    queue.submit(true);
  });
  queue.push(BlockOp.read, 0, 0, 4096, iov, 1);
  queue.submit();
  await vi.waitFor(() => expect(ended).toHaveLength(20));
});
