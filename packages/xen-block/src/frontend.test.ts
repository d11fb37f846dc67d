import { memoryImage } from '@xenpv/blockdev';
import { describe, expect, it } from 'vitest';
import { attachTestDisk } from './frontend-testing.js';

const bytes = (length: number, seed = 1) => Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) * seed) & 0xff);

describe.each(['x86_32', 'x86_64', 'arm'] as const)('%s', (abi) => {
  it.each([0, 1, 2, 3, 4])('reads what it wrote, over a ring of order %i', async (ringPageOrder) => {
    const image = memoryImage({ size: 4 << 20 });
    await using disk = await attachTestDisk({ image });
    await using front = await disk.connect({ abi, ringPageOrder });
    expect(front.size).toBe(4 << 20);
    expect(front.ringPageOrder).toBe(ringPageOrder);
    const data = bytes(1 << 20, 7);
    await front.write(512, data);
    expect(Buffer.compare(new Uint8Array(image.data, 512, data.length), data)).toBe(0);
    expect(Buffer.compare(await front.read(512, data.length), data)).toBe(0);
    await front.flush();
  });
});
