import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, expect, onTestFinished, test, vi } from 'vitest';
import { attachImage } from '../attach.js';
import { type BlockImage, BlockOp } from '../block-image.js';
import { allocateMemory } from '../queue/buffer.js';
import { ForgetfulServer } from '../testing/forgetful-server.js';
import { QueueDriver } from '../testing/queue-driver.js';
import { type NbdImageOptions, openNbdImage } from './image.js';

const folder = mkdtempSync(join(tmpdir(), 'blockdev-'));
afterAll(() => rmSync(folder, { recursive: true }));

const MIB = 1 << 20;
let servers = 0;

async function serve(): Promise<ForgetfulServer> {
  const server = new ForgetfulServer(join(folder, `server-${servers++}`), MIB);
  await server.start();
  onTestFinished(() => server.crash());
  return server;
}

async function open(server: ForgetfulServer, options: NbdImageOptions = {}): Promise<BlockImage> {
  const image = await openNbdImage(server.socket, options);
  onTestFinished(() => image.close());
  return image;
}

function drive(image: BlockImage): QueueDriver {
  return new QueueDriver(image.createQueue({ depth: 8, memory: allocateMemory(64 << 10) }));
}

test('an export that has grown is used to its new end, on every thread, once it is looked at', async () => {
  const server = await serve();
  const image = await open(server);
  const other = (await attachImage(image.share()?.data)) as BlockImage;
  onTestFinished(() => other.close());
  const [one, two] = [drive(image), drive(other)];
  server.resize(2 * MIB);
  expect(await one.run(BlockOp.write, MIB, 4096)).toBe(-28);
  expect(await Promise.all([image.refresh(), image.refresh()])).toEqual([2 * MIB, 2 * MIB]);
  expect(await other.refresh({ mayShrink: true })).toBe(2 * MIB);
  expect([image.size, other.size]).toEqual([2 * MIB, 2 * MIB]);
  expect(await one.run(BlockOp.write, MIB, 4096)).toBe(4096);
  expect(await two.run(BlockOp.write, 2 * MIB - 4096, 4096)).toBe(4096);
  expect(await one.run(BlockOp.write, 2 * MIB, 4096)).toBe(-28);
});

test('what is in flight while an export grows is answered once, and nothing of it is lost', async () => {
  const server = await serve();
  const image = await open(server);
  const driver = drive(image);
  let isHeld = true;
  server.onWrite = async () => {
    while (isHeld) await delay(5);
  };
  new Uint8Array(driver.queue.memory).fill(7);
  const writes = [0, 1, 2, 3].map((i) => driver.run(BlockOp.write, i * 4096, 4096));
  await vi.waitFor(() => expect(server.clients).toBe(1));
  server.resize(3 * MIB);
  const grown = image.refresh();
  await delay(20);
  isHeld = false;
  expect(await grown).toBe(3 * MIB);
  expect(await Promise.all(writes)).toEqual([4096, 4096, 4096, 4096]);
  expect(await driver.run(BlockOp.flush, 0, 0)).toBe(0);
  expect(server.stable.subarray(0, 4 * 4096).every((byte) => byte === 7)).toBe(true);
});

test('an export that has shrunk is as it was, unless it may shrink', async () => {
  const server = await serve();
  const image = await open(server);
  const driver = drive(image);
  server.resize(MIB / 2);
  expect(await image.refresh()).toBe(MIB / 2);
  expect(image.size).toBe(MIB);
  expect(await image.refresh({ mayShrink: true })).toBe(MIB / 2);
  expect(image.size).toBe(MIB / 2);
  expect(await driver.run(BlockOp.write, MIB / 2, 4096)).toBe(-28);
  expect(await driver.run(BlockOp.write, 0, 4096)).toBe(4096);
});

test('an export that comes back larger goes on with the size that it had, and one that comes back smaller waits', async () => {
  const server = await serve();
  const image = await open(server);
  const driver = drive(image);
  server.crash();
  server.resize(2 * MIB);
  await server.start();
  expect(await driver.run(BlockOp.write, MIB - 4096, 4096)).toBe(4096);
  expect(image.size).toBe(MIB);
  expect(await driver.run(BlockOp.flush, 0, 0)).toBe(0);
  expect(await image.refresh()).toBe(2 * MIB);
  server.crash();
  server.resize(MIB);
  await server.start();
  const write = driver.run(BlockOp.write, 0, 4096);
  expect(await Promise.race([write, delay(300, 'waits')])).toBe('waits');
  server.resize(2 * MIB);
  expect(await write).toBe(4096);
});

test('an export that is made anew meanwhile is waited for', async () => {
  const server = await serve();
  const image = await open(server);
  server.crash();
  server.resize(2 * MIB);
  const grown = image.refresh();
  await delay(100);
  await server.start();
  expect(await grown).toBe(2 * MIB);
});

test('a server that stays away is told of, and changes nothing', async () => {
  const server = await serve();
  const image = await open(server, { negotiation: 500 });
  const driver = drive(image);
  server.crash();
  await expect(image.refresh()).rejects.toMatchObject({ code: expect.stringMatching(/ENOENT|ECONNREFUSED/) });
  server.resize(2 * MIB);
  const write = driver.run(BlockOp.write, 0, 4096);
  await server.start();
  expect(await write).toBe(4096);
  expect(image.size).toBe(MIB);
  expect(await image.refresh()).toBe(2 * MIB);
  await image.close();
  await image.refresh().catch(() => {});
});

test('a look that is given up ends at once, and the one before it is finished', async () => {
  const server = await serve();
  const image = await open(server);
  const driver = drive(image);
  let isHeld = true;
  server.onWrite = async () => {
    while (isHeld) await delay(5);
  };
  const write = driver.run(BlockOp.write, 0, 4096);
  await vi.waitFor(() => expect(server.clients).toBe(1));
  server.resize(2 * MIB);
  const first = image.refresh();
  const ending = new AbortController();
  const second = image.refresh({ signal: ending.signal });
  ending.abort(new Error('enough'));
  await expect(second).rejects.toThrow('enough');
  await expect(image.refresh({ signal: ending.signal })).rejects.toThrow('enough');
  expect(image.size).toBe(MIB);
  isHeld = false;
  expect(await first).toBe(2 * MIB);
  expect(await write).toBe(4096);
  expect(await image.refresh({ signal: new AbortController().signal })).toBe(2 * MIB);
});
