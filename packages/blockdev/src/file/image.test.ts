import { execFileSync } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs, withoutRoot } from '@xenpv/test-support';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { loadAddon, optionalAddon } from '../addon.js';
import { BlockOp } from '../block-image.js';
import { allocateMemory } from '../queue/buffer.js';
import { QueueDriver } from '../testing/queue-driver.js';
import { threadRing } from '../uring/thread-ring.js';
import { openFileImage } from './image.js';

const folder = mkdtempSync(join(tmpdir(), 'blockdev-'));
afterAll(() => rmSync(folder, { recursive: true }));

const addon = { name: 'the native addon', met: () => optionalAddon() !== undefined };
const uring = { name: 'io_uring', met: () => typeof threadRing() !== 'string' };
let files = 0;

function makeFile(bytes: number | Uint8Array): string {
  const path = join(folder, `image-${files++}`);
  writeFileSync(path, typeof bytes === 'number' ? new Uint8Array(bytes).fill(0x5a) : bytes);
  return path;
}

const engines = (['threads', 'sync', 'io_uring'] as const).filter(
  (engine) => engine !== 'io_uring' || typeof threadRing() !== 'string',
);

describe('what cannot be opened', () => {
  const fifo = join(folder, 'fifo');
  execFileSync('mkfifo', [fifo]);
  mkdirSync(join(folder, 'directory'));
  test.each([
    ['missing', () => join(folder, 'missing'), 'ENOENT', 'does not exist'],
    ['under a file', () => join(makeFile(512), 'x'), 'ENOTDIR', 'does not exist'],
    ['a directory', () => join(folder, 'directory'), 'EISDIR', 'is a directory'],
    ['a FIFO', () => fifo, 'ERR_IMAGE_TYPE', 'neither a regular file nor a block device'],
    ['empty', () => makeFile(0), 'ERR_IMAGE_EMPTY', 'is empty'],
    ['less than a sector', () => makeFile(256), 'ERR_IMAGE_UNALIGNED', '256 bytes, less than one sector'],
  ])('%s', async (_name, path, code, words) => {
    const name = path();
    const opening = openFileImage(name);
    await expect(opening).rejects.toMatchObject({ name: 'BlockDeviceError', code, op: expect.any(String) });
    await expect(opening).rejects.toThrow(words);
    await expect(opening).rejects.toThrow(name);
  });

  test('a sector size that is none', async () => {
    await expect(openFileImage(makeFile(4096), { sectorSize: 520 })).rejects.toMatchObject({ code: 'ERR_SECTOR_SIZE' });
  });

  test('without permission', async () => {
    const path = makeFile(4096);
    chmodSync(folder, 0o755);
    chmodSync(path, 0o444);
    await withoutRoot(async () => {
      await expect(openFileImage(path)).rejects.toMatchObject({ code: 'EACCES' });
      await (await openFileImage(path, { readOnly: true })).close();
    });
  });
});

describe.each(engines)('an odd size through %s', (engine) => {
  /** The messages of `work`. */
  async function oddSizes(work: () => Promise<void>): Promise<unknown[]> {
    const messages: unknown[] = [];
    const listener = (message: unknown) => messages.push(message);
    subscribe('blockdev:image:odd-size', listener);
    await work();
    unsubscribe('blockdev:image:odd-size', listener);
    return messages;
  }

  test.each([
    [1024 + 256, undefined, 1024],
    [(1 << 20) + 511, undefined, 1 << 20],
    [4096 + 512, 4096, 4096],
  ])('%i bytes in sectors of %s are served as %i, and said once', async (size, sectorSize, served) => {
    const path = makeFile(size);
    const messages = await oddSizes(async () => {
      const image = await openFileImage(path, { engine, sectorSize });
      expect(image.size).toBe(served);
      for (let i = 0; i < 3; i++) expect(await image.refresh()).toBe(served);
      const driver = new QueueDriver(image.createQueue({ depth: 1, memory: allocateMemory(4096) }));
      expect(await driver.run(BlockOp.write, served - image.sectorSize, image.sectorSize)).toBe(image.sectorSize);
      expect(await driver.run(BlockOp.write, served, image.sectorSize)).toBeLessThan(0);
      await image.close();
    });
    expect(messages).toEqual([{ path, size, served, sectorSize: sectorSize ?? 512 }]);
  });

  test('a size that becomes odd is said once too', async () => {
    const path = makeFile(4096);
    const messages = await oddSizes(async () => {
      const image = await openFileImage(path, { engine });
      truncateSync(path, 8192 + 1);
      for (let i = 0; i < 3; i++) expect(await image.refresh()).toBe(8192);
      expect(image.size).toBe(8192);
      await image.close();
    });
    expect(messages).toEqual([{ path, size: 8193, served: 8192, sectorSize: 512 }]);
  });

  test('shrinks only when it may, and never to nothing', async () => {
    const path = makeFile(8192);
    const image = await openFileImage(path, { engine });
    truncateSync(path, 4096 + 7);
    expect(await image.refresh()).toBe(4096);
    expect(image.size).toBe(8192);
    expect(await image.refresh({ mayShrink: true })).toBe(4096);
    expect(image.size).toBe(4096);
    truncateSync(path, 7);
    await expect(image.refresh({ mayShrink: true })).rejects.toMatchObject({ code: 'ERR_IMAGE_UNALIGNED' });
    truncateSync(path, 0);
    await expect(image.refresh({ mayShrink: true })).rejects.toMatchObject({ code: 'ERR_IMAGE_EMPTY' });
    expect(image.size).toBe(4096);
    await image.close();
  });
});

/** Whether the page cache has the file at 4 MiB. Throws where the file system cannot tell. */
function isCached(path: string): boolean {
  const look = 'import os,sys; print(os.preadv(os.open(sys.argv[1], 0), [bytearray(1)], 4 << 20, os.RWF_NOWAIT))';
  try {
    return execFileSync('python3', ['-c', look, path], { stdio: 'pipe' }).toString() === '1\n';
  } catch (error) {
    if (String(error).includes('BlockingIOError')) return false;
    throw error;
  }
}

const nowait = {
  name: 'RWF_NOWAIT for temporary files',
  met: () => {
    try {
      return isCached(makeFile(8 << 20));
    } catch {
      return false;
    }
  },
};
const pageCache = needs(uring, 'O_DIRECT for temporary files', 'python3', nowait);

pageCache.test('what the page cache has of an image that is written past it is dropped', async () => {
  const path = makeFile(8 << 20);
  // What is dirty is only written out at first.
  execFileSync('sync', [path]);
  const cached = () => isCached(path);
  expect(cached()).toBe(true);
  const reader = await openFileImage(path, { readOnly: true });
  expect(reader.direct).toBe(true);
  await reader.close();
  expect(cached()).toBe(true);
  const image = await openFileImage(path);
  await vi.waitFor(() => expect(cached()).toBe(false), { timeout: 10_000 });
  readFileSync(path);
  expect(cached()).toBe(true);
  const driver = new QueueDriver(image.createQueue({ depth: 4, memory: allocateMemory(4096) }));
  for (let i = 0; i < 2048; i++) await driver.run(BlockOp.write, (i % 8) * 4096, 4096);
  await vi.waitFor(() => expect(cached()).toBe(false), { timeout: 10_000 });
  await image.close();
  // Closed while it is at it.
  await (await openFileImage(path)).close();
});

describe.each(engines)('a file through %s', (engine) => {
  async function open(path: string, options = {}) {
    const image = await openFileImage(path, { engine, ...options });
    const queue = image.createQueue({ depth: 4, memory: allocateMemory(65536) });
    return { image, driver: new QueueDriver(queue), bytes: new Uint8Array(queue.memory) };
  }

  test('is made longer and shorter by resize, which refresh tells of', async () => {
    const path = makeFile(4096);
    const { image, driver } = await open(path);
    await image.resize(8192);
    expect([image.size, await image.refresh()]).toEqual([4096, 8192]);
    expect(await driver.run(BlockOp.write, 4096, 4096)).toBe(4096);
    await image.resize(512);
    expect([await image.refresh({ mayShrink: true }), image.size]).toEqual([512, 512]);
    expect(await driver.run(BlockOp.write, 4096, 512)).toBeLessThan(0);
    await image.close();
  });

  test('that is read-only is not resized', async () => {
    const { image } = await open(makeFile(4096), { readOnly: true });
    await expect(image.resize(8192)).rejects.toMatchObject({ code: 'EINVAL', op: 'resize' });
    await image.close();
  });

  test('grows', async () => {
    const path = makeFile(4096);
    const { image, driver, bytes } = await open(path);
    truncateSync(path, 8192 + 100);
    expect(image.size).toBe(4096);
    expect(await driver.run(BlockOp.write, 4096, 4096)).toBeLessThan(0);
    expect(await image.refresh()).toBe(8192);
    expect(image.size).toBe(8192);
    expect(await driver.run(BlockOp.write, 4096, 4096)).toBe(4096);
    bytes.fill(1);
    expect(await driver.run(BlockOp.read, 0, 8192)).toBe(8192);
    expect(bytes.subarray(0, 4096).every((byte) => byte === 0x5a)).toBe(true);
    expect(bytes.subarray(4096, 8192).every((byte) => byte === 0)).toBe(true);
    await image.close();
  });

  test('that was cut short reads as zeroes there', async () => {
    const path = makeFile(16384);
    const { image, driver, bytes } = await open(path);
    truncateSync(path, 4096 + 700);
    bytes.fill(1);
    expect(await driver.run(BlockOp.read, 0, 16384)).toBe(16384);
    expect(bytes.subarray(0, 4096 + 700).every((byte) => byte === 0x5a)).toBe(true);
    expect(bytes.subarray(4096 + 700, 16384).every((byte) => byte === 0)).toBe(true);
    await image.close();
  });

  test('is huge and has holes', async () => {
    const path = makeFile(0);
    const size = 2 ** 42;
    truncateSync(path, size);
    const { image, driver, bytes } = await open(path);
    bytes.fill(7);
    expect(await driver.run(BlockOp.writeFua, size - 4096, 4096)).toBe(4096);
    expect(await driver.run(BlockOp.read, 2 ** 41, 4096)).toBe(4096);
    expect(bytes.subarray(0, 4096).every((byte) => byte === 0)).toBe(true);
    expect(await driver.run(BlockOp.read, size - 4096, 4096)).toBe(4096);
    expect(bytes.subarray(0, 4096).every((byte) => byte === 7)).toBe(true);
    expect(statSync(path).blocks * 512).toBeLessThan(1 << 20);
    await image.close();
  });

  test('takes memory that O_DIRECT does not', async () => {
    const path = makeFile(16384);
    const { image, driver, bytes } = await open(path, { direct: true });
    const done = driver.push(BlockOp.read, 0, 1024, [
      [0, 7, 100],
      [0, 2001, 924],
    ]);
    driver.queue.submit();
    expect(await done).toBe(1024);
    expect(bytes.subarray(7, 107).every((byte) => byte === 0x5a)).toBe(true);
    expect(bytes.subarray(2001, 2925).every((byte) => byte === 0x5a)).toBe(true);
    await image.close();
  });

  // Holes take fallocate, which Node does not have.
  needs(addon, 'holes in temporary files').test('gives room back when it is discarded', async () => {
    const path = makeFile(1 << 20);
    const { image, driver } = await open(path);
    expect(image.features.discard).toBe(true);
    expect(await driver.run(BlockOp.flush, 0, 0)).toBe(0);
    const before = statSync(path).blocks;
    expect(await driver.run(BlockOp.discard, 0, 1 << 19)).toBe(0);
    expect(statSync(path).blocks).toBeLessThan(before);
    expect(
      readFileSync(path)
        .subarray(0, 1 << 19)
        .every((byte) => byte === 0),
    ).toBe(true);
    expect(statSync(path).size).toBe(1 << 20);
    await image.close();
  });

  const length = 5 * 2 ** 30;
  const lengths = [2 ** 31 - 4096, 2 ** 31, 2 ** 32, 2 ** 32 + 4096, length];
  const holes = needs(addon, 'holes in temporary files');
  holes.test.each(lengths)('discards and zeroes %i bytes at once', async (bytes) => {
    const path = makeFile(0);
    truncateSync(path, 2 ** 42);
    const { image, driver, bytes: memory } = await open(path);
    const ends = [0, bytes - 4096, bytes];
    for (const op of [BlockOp.discard, BlockOp.writeZeroes]) {
      memory.fill(7);
      for (const end of ends) await driver.run(BlockOp.write, 4096 + end, 4096);
      expect(await driver.run(op, 4096, bytes)).toBe(0);
      expect(await driver.run(BlockOp.flush, 0, 0)).toBe(0);
      for (const [i, end] of ends.entries()) {
        expect(await driver.run(BlockOp.read, 4096 + end, 4096)).toBe(4096);
        expect(memory[4095]).toBe(i < 2 ? 0 : 7);
      }
    }
    expect(await driver.run(BlockOp.discard, 0, 2 ** 42)).toBe(0);
    await image.close();
  });

  test('hides discard when told to', async () => {
    const { image, driver } = await open(makeFile(1 << 20), { discard: false });
    expect(image.features).toMatchObject({ discard: false, discardGranularity: 0 });
    expect(await driver.run(BlockOp.discard, 0, 4096)).toBeLessThan(0);
    await image.close();
  });

  test('closes its queues with itself', async () => {
    const { image, driver } = await open(makeFile(4096));
    const read = driver.run(BlockOp.read, 0, 4096);
    await image.close();
    expect(await read).toBe(4096);
  });
});

test('an engine that does not exist here is replaced, and said so', async () => {
  vi.resetModules();
  vi.doMock('../addon.js', () => ({
    loadAddon: () => {
      throw new Error('no addon for this test');
    },
    optionalAddon: () => undefined,
  }));
  const { openFileImage: open } = await import('./image.js');
  const messages: unknown[] = [];
  const listener = (message: unknown) => messages.push(message);
  subscribe('blockdev:engine:fallback', listener);
  const path = makeFile(1 << 20);
  const image = await open(path);
  unsubscribe('blockdev:engine:fallback', listener);
  expect(image.engine).toBe('threads');
  expect(image.features).toMatchObject({ flush: true, fua: true, discard: false, writeZeroes: false });
  expect(messages).toEqual([
    { path, wanted: 'io_uring', used: 'threads', reason: 'the addon is not there: no addon for this test' },
  ]);
  await expect(open(path, { engine: 'io_uring' })).rejects.toMatchObject({ code: 'ERR_NO_IO_URING' });
  const driver = new QueueDriver(image.createQueue({ depth: 2, memory: allocateMemory(4096) }));
  expect(await driver.run(BlockOp.read, 0, 4096)).toBe(4096);
  expect(await driver.run(BlockOp.discard, 0, 4096)).toBeLessThan(0);
  await image.close();
  vi.doUnmock('../addon.js');
});

/** Pages of the file that are cached, or undefined where nobody tells. */
function cachedPages(path: string): number {
  return Number(execFileSync('fincore', ['--raw', '--noheadings', '--output', 'PAGES', path]).toString());
}

needs('fincore', 'O_DIRECT for temporary files', addon).describe(
  'the page cache of an image that is written past it',
  () => {
    test.each(engines)('gets nothing of whatever %s does', async (engine) => {
      const path = makeFile(1 << 20);
      execFileSync('sync', [path]);
      execFileSync('dd', [`of=${path}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0'], { stdio: 'ignore' });
      const image = await openFileImage(path, { engine, direct: true });
      expect(cachedPages(path)).toBe(0);
      const driver = new QueueDriver(image.createQueue({ depth: 4, memory: allocateMemory(1 << 20) }));
      const bytes = new Uint8Array(driver.queue.memory);
      const expected = readExpected();
      const ops: [op: BlockOp, offset: number, length: number][] = [
        [BlockOp.discard, 512, 1024],
        [BlockOp.discard, 4096 - 512, 8192 + 1024],
        [BlockOp.writeZeroes, 65536 + 512, 512],
        [BlockOp.writeZeroes, 65536 + 4096 - 512, 8192 + 1024],
        [BlockOp.writeZeroes, 131072 + 1024, 2048 + 512],
      ];
      for (const [op, offset, length] of ops) {
        expect(await driver.run(op, offset, length)).toBe(0);
        if (op === BlockOp.writeZeroes) expected.fill(0, offset, offset + length);
      }
      expected.fill(0, 4096, 4096 + 8192);
      // Memory that O_DIRECT refuses.
      for (const op of [BlockOp.write, BlockOp.writeFua]) {
        bytes.fill(op + 1);
        const done = driver.push(op, 262144 + op * 1024, 1024, [
          [0, 7, 100],
          [0, 2001, 924],
        ]);
        driver.queue.submit();
        expect(await done).toBe(1024);
        expected.fill(op + 1, 262144 + op * 1024, 262144 + (op + 1) * 1024);
      }
      const read = driver.push(BlockOp.read, 0, 3 << 18, [[0, 13, 3 << 18]]);
      driver.queue.submit();
      expect(await read).toBe(3 << 18);
      expect(Buffer.compare(bytes.subarray(13, 13 + (3 << 18)), expected.subarray(0, 3 << 18))).toBe(0);
      expect(await driver.run(BlockOp.flush, 0, 0)).toBe(0);
      expect(cachedPages(path)).toBe(0);
      await image.close();
    });

    test.each(engines)('reads zeroes past the end of a file that was cut short, by %s', async (engine) => {
      const path = makeFile(16384);
      const image = await openFileImage(path, { engine, direct: true });
      const driver = new QueueDriver(image.createQueue({ depth: 1, memory: allocateMemory(65536) }));
      const bytes = new Uint8Array(driver.queue.memory).fill(1);
      truncateSync(path, 4096 + 700);
      const read = driver.push(BlockOp.read, 0, 16384, [[0, 5, 16384]]);
      driver.queue.submit();
      expect(await read).toBe(16384);
      expect(bytes.subarray(5, 5 + 4796).every((byte) => byte === 0x5a)).toBe(true);
      expect(bytes.subarray(5 + 4796, 5 + 16384).every((byte) => byte === 0)).toBe(true);
      await image.close();
    });

    function readExpected(): Uint8Array {
      return new Uint8Array(1 << 20).fill(0x5a);
    }
  },
);

needs(addon).test('memory for queues is page aligned', () => {
  for (const bytes of [1, 4096, 5000, 1 << 20]) {
    const memory = new Uint8Array(allocateMemory(bytes));
    expect(loadAddon().address(memory) % 4096).toBe(0);
    expect(memory.length).toBe(Math.ceil(bytes / 4096) * 4096);
  }
});
