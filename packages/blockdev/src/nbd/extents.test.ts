import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { BlockOp } from '../block-image.js';
import { allocateMemory } from '../queue/buffer.js';
import { ForgetfulServer } from '../testing/forgetful-server.js';
import { QueueDriver } from '../testing/queue-driver.js';
import { openNbdImage } from './image.js';

const SOON = { timeout: 30_000, interval: 5 };
const folder = mkdtempSync(join(tmpdir(), 'blockdev-extents-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('a server that has come back is not believed before it has what was acknowledged', async () => {
  const server = new ForgetfulServer(join(folder, 'socket'), 65536);
  await server.start();
  const image = await openNbdImage(server.socket);
  const driver = new QueueDriver(image.createQueue({ depth: 1, memory: allocateMemory(4096) }));
  const hole = { isHole: true, isZero: true };
  expect(await image.extents?.(0, 65536)).toEqual([{ length: 65536, ...hole }]);
  new Uint8Array(driver.queue.memory).fill(7);
  expect(await driver.run(BlockOp.write, 0, 4096)).toBe(4096);
  expect(await image.extents?.(0, 4096)).toEqual([{ length: 4096, isHole: false, isZero: false }]);
  server.crash();
  let sendAgain = () => {};
  const held = new Promise<void>((resolve) => {
    sendAgain = resolve;
  });
  const { writes } = server;
  server.onWrite = () => held;
  await server.start();
  // The connection that was asked before has ended, which its client may not have seen yet.
  await expect.poll(() => server.writes, SOON).toBe(writes + 1);
  const found = image.extents?.(0, 4096).catch(() => image.extents?.(0, 4096));
  await expect.poll(() => server.clients, SOON).toBe(2);
  for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate);
  sendAgain();
  expect(await found).toEqual([{ length: 4096, isHole: false, isZero: false }]);
  await image.close();
  expect(server.clients).toBeLessThan(2);
  server.crash();
});

test('nobody waits for a server that is away, or tells nothing', async () => {
  const server = new ForgetfulServer(join(folder, 'other'), 65536);
  server.contexts.length = 0;
  await server.start();
  const image = await openNbdImage(server.socket);
  await expect(image.extents?.(0, 4096)).rejects.toThrow('no context base:allocation');
  server.crash();
  await expect(image.extents?.(0, 4096)).rejects.toThrow();
  await image.close();
});

test('an image is closed though its server does not come to be up to date', async () => {
  const server = new ForgetfulServer(join(folder, 'hung'), 65536);
  await server.start();
  const image = await openNbdImage(server.socket);
  let isAsked = false;
  server.read = () => {
    isAsked = true;
    return new Promise(() => {});
  };
  const found = image.extents?.(0, 4096).catch(() => 'unknown');
  await expect.poll(() => isAsked, SOON).toBe(true);
  const closed = image.close();
  server.crash();
  await closed;
  expect(await found).toBe('unknown');
});
