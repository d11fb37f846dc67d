import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { needs } from '@xenpv/test-support';
import { afterAll, describe, expect, test } from 'vitest';
import { openFileImage } from '../file/image.js';
import { memoryImage } from '../memory/image.js';
import { packageRoot } from '../package-root.js';
import { threadRing } from '../uring/thread-ring.js';

// Worker threads cannot load TypeScript: these use the built package.
const uring = { name: 'io_uring', met: () => typeof threadRing() !== 'string' };
const index = new URL('dist/index.js', packageRoot()).href;
const testing = new URL('dist/testing.js', packageRoot()).href;

const folder = mkdtempSync(join(tmpdir(), 'blockdev-'));
afterAll(() => rmSync(folder, { recursive: true }));

const PREAMBLE = `
  const { parentPort, workerData } = require('node:worker_threads');
  (async () => {
    const { allocateMemory, BlockOp } = await import(workerData.index);
    const { QueueDriver } = await import(workerData.testing);
    const { attachImage } = await import(workerData.shared.module);
    const image = await attachImage(workerData.shared.data);
    const open = (depth, bytes) => new QueueDriver(image.createQueue({ depth, memory: allocateMemory(bytes) }));
`;

function start(shared: unknown, body: string): Worker {
  return new Worker(`${PREAMBLE}${body}})();`, { eval: true, workerData: { index, testing, shared } });
}

function message(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
}

const READ_FIRST = `
  const driver = open(1, 4096);
  const result = await driver.run(BlockOp.read, 0, 4096);
  parentPort.postMessage([image.engine, result, new Uint8Array(driver.queue.memory)[0]]);
  await image.close();
`;

test('a memory disk is the same on another thread', async () => {
  const image = memoryImage({ data: new Uint8Array(65536).fill(5) });
  expect(await message(start(image.share(), READ_FIRST))).toEqual(['memory', 4096, 5]);
});

test('a file is opened on several threads', async () => {
  const path = join(folder, 'shared.img');
  writeFileSync(path, new Uint8Array(65536).fill(6));
  const image = await openFileImage(path);
  const workers = [start(image.share(), READ_FIRST), start(image.share(), READ_FIRST)];
  const same = [image.engine, 4096, 6];
  expect(await Promise.all(workers.map(message))).toEqual([same, same]);
  await image.close();
});

describe.each(['io_uring', 'threads'] as const)('%s', (engine) => {
  const { test } = engine === 'io_uring' ? needs(uring) : needs();

  test('a thread may be terminated with operations in flight', async () => {
    const path = join(folder, 'terminated.img');
    writeFileSync(path, new Uint8Array(8 << 20).fill(6));
    const image = await openFileImage(path, { engine, direct: true });
    for (let round = 0; round < 5; round++) {
      const worker = start(
        image.share(),
        `
          const driver = open(64, 64 * 65536);
          const again = (i) => {
            if (i === 63 + 50 * ${round}) parentPort.postMessage('reading');
            driver.push(BlockOp.read, (i % 100) * 65536, 65536, [[0, (i % 64) * 65536, 65536]]).then(() => {
              again(i + 1);
              driver.queue.submit();
            });
          };
          for (let i = 0; i < 64; i++) again(i);
          driver.queue.submit();
        `,
      );
      await message(worker);
      await worker.terminate();
    }
    await image.close();
  });

  test('an idle queue does not keep a thread alive', async () => {
    const path = join(folder, 'idle.img');
    writeFileSync(path, new Uint8Array(65536));
    const image = await openFileImage(path, { engine });
    const worker = start(image.share(), `await open(1, 4096).run(BlockOp.read, 0, 4096);`);
    expect(await new Promise((resolve) => worker.once('exit', resolve))).toBe(0);
    await image.close();
  });
});
