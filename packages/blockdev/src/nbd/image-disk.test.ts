import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { NbdServer } from '@xenpv/nbd';
import { afterAll, describe, expect, it, test } from 'vitest';
import { type BlockImage, BlockOp } from '../block-image.js';
import { memoryImage } from '../memory/image.js';
import { allocateMemory } from '../queue/buffer.js';
import { QueueDriver } from '../testing/queue-driver.js';
import { testEngine } from '../testing/suite.js';
import { faultyImage } from '../wrappers/faulty.js';
import { ImageWrapper } from '../wrappers/image-wrapper.js';
import { openNbdImage } from './image.js';
import { nbdDiskOf } from './image-disk.js';

const { EIO, ENOSPC } = constants.errno;

const folder = mkdtempSync(join(tmpdir(), 'blockdev-'));
afterAll(() => rmSync(folder, { recursive: true }));

let sockets = 0;

/** `image` as a client of our own server sees it; closing it closes all. */
async function throughNbd(image: BlockImage, options: { readOnly?: boolean } = {}): Promise<BlockImage> {
  const disk = nbdDiskOf(image);
  const server = new NbdServer({ disk });
  const socket = join(folder, `nbd-${sockets++}`);
  await once(server.listener.listen(socket), 'listening');
  return new (class extends ImageWrapper {
    protected override async closeOnce(): Promise<void> {
      await super.closeOnce();
      await server.close();
      await disk[Symbol.asyncDispose]();
      await image.close();
    }
  })(await openNbdImage(socket, options));
}

testEngine(
  { describe, it },
  {
    name: 'nbd from a server of our own',
    open: (data, options) => throughNbd(memoryImage({ data, ...options }), options),
  },
);

test('a client gets the errno of the storage', async () => {
  const results = [-ENOSPC, -EIO];
  const image = await throughNbd(
    faultyImage(memoryImage({ size: 65536 }), ({ op }) =>
      op === BlockOp.write ? { result: results.shift() } : undefined,
    ),
  );
  const driver = new QueueDriver(image.createQueue({ depth: 1, memory: allocateMemory(4096) }));
  expect(await driver.run(BlockOp.write, 0, 4096)).toBe(-ENOSPC);
  expect(await driver.run(BlockOp.write, 0, 4096)).toBe(-EIO);
  expect(await driver.run(BlockOp.write, 0, 4096)).toBe(4096);
  await image.close();
});

test('a discard goes out in parts that the server allows, some at once, and one that fails ends it', async () => {
  const ranges: [offset: number, length: number][] = [];
  let inFlight = 0;
  let most = 0;
  let failing = false;
  const disk = {
    size: 2 ** 40,
    blockSize: 512,
    readOnly: false,
    read: async (_offset: number, length: number) => new Uint8Array(length),
    write: async () => {},
    flush: async () => {},
    discard: async (offset: number, length: number) => {
      most = Math.max(most, ++inFlight);
      await new Promise(setImmediate);
      inFlight--;
      ranges.push([offset, length]);
      if (failing) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
    },
  };
  const server = new NbdServer({ disk });
  const socket = join(folder, `nbd-${sockets++}`);
  await once(server.listener.listen(socket), 'listening');
  const image = await openNbdImage(socket);
  const driver = new QueueDriver(image.createQueue({ depth: 1, memory: allocateMemory(4096) }));
  expect(await driver.run(BlockOp.discard, 512, 2 ** 36)).toBe(0);
  ranges.sort(([a], [b]) => a - b);
  let at = 512;
  for (const [offset, length] of ranges) {
    expect(offset).toBe(at);
    expect(length).toBeLessThanOrEqual(32 << 20);
    at += length;
  }
  expect(at).toBe(512 + 2 ** 36);
  expect(most).toBeLessThanOrEqual(16);
  ranges.length = 0;
  failing = true;
  expect(await driver.run(BlockOp.discard, 512, 2 ** 36)).toBe(-ENOSPC);
  expect(ranges.length).toBeLessThanOrEqual(32);
  await image.close();
  await server.close();
});

test('requests longer than a slot, and more than there are slots', async () => {
  const data = Uint8Array.from({ length: 8 << 20 }, (_, i) => i >> 12);
  const disk = nbdDiskOf(memoryImage({ data }));
  const reads = Array.from({ length: 40 }, (_, i) => disk.read(i * 4096, 1 << 20));
  for (const [i, read] of (await Promise.all(reads)).entries()) {
    expect(Buffer.compare(read, data.subarray(i * 4096, i * 4096 + (1 << 20)))).toBe(0);
  }
  await disk[Symbol.asyncDispose]();
});

test('an export that is only read takes no write, and has nothing to flush', async () => {
  const image = memoryImage({ size: 65536 });
  const done: number[] = [];
  const watched = faultyImage(image, ({ op }) => {
    done.push(op);
    return undefined;
  });
  const disk = nbdDiskOf(watched, { readOnly: true });
  expect([disk.readOnly, nbdDiskOf(watched).readOnly]).toEqual([true, false]);
  expect([disk.discard, nbdDiskOf(watched).discard]).toEqual([undefined, expect.any(Function)]);
  await disk.flush();
  await disk.read(0, 512);
  expect(done).toEqual([BlockOp.read]);
  await disk[Symbol.asyncDispose]();
  const readOnly = nbdDiskOf(memoryImage({ size: 65536, readOnly: true }), { readOnly: false });
  expect(readOnly.readOnly).toBe(true);
});
