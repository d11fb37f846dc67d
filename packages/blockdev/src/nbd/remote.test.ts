import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, describe, expect, it, onTestFinished, test } from 'vitest';
import { attachImage } from '../attach.js';
import { type BlockImage, BlockOp } from '../block-image.js';
import { allocateMemory } from '../queue/buffer.js';
import { ForgetfulServer } from '../testing/forgetful-server.js';
import { QueueDriver } from '../testing/queue-driver.js';
import { testEngine } from '../testing/suite.js';
import type { NbdHostPort } from './address.js';
import { type NbdImageOptions, openNbdImage } from './image.js';

const folder = mkdtempSync(join(tmpdir(), 'blockdev-'));
afterAll(() => rmSync(folder, { recursive: true }));

const MIB = 1 << 20;

async function serve(bytes = MIB): Promise<{ server: ForgetfulServer; address: NbdHostPort }> {
  const server = new ForgetfulServer(join(folder, 'unused'), bytes);
  server.port = 0;
  await server.start();
  onTestFinished(() => server.crash());
  return { server, address: { host: '127.0.0.1', port: server.port } };
}

async function open(address: NbdHostPort, options: NbdImageOptions = {}): Promise<BlockImage> {
  const image = await openNbdImage(address, options);
  onTestFinished(() => image.close());
  return image;
}

function drive(image: BlockImage): QueueDriver {
  return new QueueDriver(image.createQueue({ depth: 8, memory: allocateMemory(64 << 10) }));
}

/** A network between a server and its clients, which can be cut: then nothing passes, and nobody is told. */
async function network(to: NbdHostPort) {
  const cut = { is: false };
  const sockets = new Set<Socket>();
  const listener = createServer((client) => {
    const server = connect(to);
    for (const [from, into] of [
      [client, server],
      [server, client],
    ]) {
      sockets.add(from);
      from.on('data', (bytes) => {
        if (!cut.is) into.write(bytes);
      });
      from.on('close', () => {
        if (!cut.is) into.destroy();
      });
      from.on('error', () => {});
    }
  });
  await once(listener.listen(0, '127.0.0.1'), 'listening');
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    listener.close();
  });
  return { cut, address: { host: '127.0.0.1', port: (listener.address() as { port: number }).port } };
}

testEngine(
  { describe, it },
  {
    name: 'nbd over TCP',
    async open(content, { readOnly }) {
      const server = new ForgetfulServer(join(folder, 'unused'), content.length);
      server.port = 0;
      await server.write(0, content);
      await server.flush();
      await server.start();
      return openNbdImage({ host: '127.0.0.1', port: server.port }, { readOnly });
    },
  },
);

test('a server that dies and comes back has all that it had acknowledged', async () => {
  const { server, address } = await serve();
  const image = await open(address);
  const driver = drive(image);
  new Uint8Array(driver.queue.memory).fill(3);
  expect(await driver.run(BlockOp.write, 0, 4096)).toBe(4096);
  server.crash();
  const write = driver.run(BlockOp.write, 4096, 4096);
  await delay(50);
  await server.start();
  expect(await write).toBe(4096);
  expect(await driver.run(BlockOp.flush, 0, 0)).toBe(0);
  expect(server.stable.subarray(0, 8192).every((byte) => byte === 3)).toBe(true);
});

test('a network that is cut is waited for, and gone round when its silence is too long', async () => {
  const { server, address } = await serve();
  const { cut, address: through } = await network(address);
  const image = await open(through, { silence: 300 });
  const driver = drive(image);
  expect(await driver.run(BlockOp.write, 0, 4096)).toBe(4096);
  cut.is = true;
  const write = driver.run(BlockOp.write, 4096, 4096);
  expect(await Promise.race([write, delay(500, 'waits')])).toBe('waits');
  cut.is = false;
  expect(await write).toBe(4096);
  expect(await driver.run(BlockOp.flush, 0, 0)).toBe(0);
  expect(server.stable.length).toBe(MIB);
});

test('another thread connects to the same server', async () => {
  const { address } = await serve();
  const image = await open(address, { exportName: '' });
  const other = (await attachImage(image.share()?.data)) as BlockImage;
  onTestFinished(() => other.close());
  expect(await drive(other).run(BlockOp.write, 0, 4096)).toBe(4096);
  expect(image.description).toBe(`nbd://127.0.0.1:${address.port}/`);
});

test('a port where nobody listens, a host that there is not', async () => {
  const { server, address } = await serve();
  server.crash();
  await expect(openNbdImage(address)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  await expect(openNbdImage({ host: 'no-such-host.invalid', port: 10809 })).rejects.toMatchObject({
    code: expect.stringMatching(/ENOTFOUND|EAI_AGAIN/),
  });
});
