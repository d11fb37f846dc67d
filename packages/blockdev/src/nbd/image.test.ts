import { type ChildProcess, spawn } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { needs } from '@xenpv/test-support';
import { afterAll, describe, expect, it, onTestFinished, test, vi } from 'vitest';
import { type BlockImage, BlockOp } from '../block-image.js';
import { allocateMemory } from '../queue/buffer.js';
import { QueueDriver } from '../testing/queue-driver.js';
import { testEngine } from '../testing/suite.js';
import { type NbdImageOptions, openNbdImage } from './image.js';

const folder = mkdtempSync(join(tmpdir(), 'blockdev-'));
const servers: ChildProcess[] = [];
let files = 0;

afterAll(() => {
  for (const server of servers) server.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

function startServer(socket: string, file: string, writable = true): ChildProcess {
  const server = spawn('qemu-storage-daemon', [
    ...['--blockdev', `driver=file,node-name=disk,filename=${file},discard=unmap`],
    ...['--nbd-server', `addr.type=unix,addr.path=${socket},max-connections=0`],
    ...['--export', `type=nbd,id=disk,node-name=disk,name=disk,writable=${writable ? 'on' : 'off'}`],
  ]);
  servers.push(server);
  return server;
}

/** Opens the export as soon as the server listens. */
async function openSoon(socket: string, options: NbdImageOptions = {}): Promise<BlockImage> {
  for (;;) {
    try {
      return await openNbdImage(socket, { exportName: 'disk', ...options });
    } catch (error) {
      if (!['ENOENT', 'ECONNREFUSED'].includes((error as { code: string }).code)) throw error;
      await delay(10);
    }
  }
}

function drive(image: BlockImage) {
  const driver = new QueueDriver(image.createQueue({ depth: 8, memory: allocateMemory(1 << 20) }));
  return { driver, bytes: new Uint8Array(driver.queue.memory) };
}

needs('qemu-storage-daemon').describe('with qemu-storage-daemon', () => {
  testEngine(
    { describe, it },
    {
      name: 'nbd',
      async open(content, { readOnly }) {
        const file = join(folder, `disk-${files++}`);
        writeFileSync(file, content);
        startServer(`${file}.sock`, file);
        return openSoon(`${file}.sock`, { readOnly });
      },
    },
  );

  test('operations wait for a server that is started again', async () => {
    const file = join(folder, 'restarted');
    const socket = `${file}.sock`;
    writeFileSync(file, new Uint8Array(1 << 20).fill(1));
    const server = startServer(socket, file);
    const image = await openSoon(socket);
    const { driver, bytes } = drive(image);
    expect(await driver.run(BlockOp.read, 0, 4096)).toBe(4096);
    server.kill('SIGKILL');
    await once(server, 'exit');
    bytes.fill(2);
    const write = driver.run(BlockOp.write, 0, 1 << 20);
    await delay(50);
    rmSync(socket, { force: true });
    startServer(socket, file);
    expect(await write).toBe(1 << 20);
    expect(await driver.run(BlockOp.flush, 0, 0)).toBe(0);
    expect(readFileSync(file).every((byte) => byte === 2)).toBe(true);
    await image.close();
  });

  test('a server that goes away and comes back is told of, once each, and what was sent to it again', async () => {
    const told: [is: string, event: unknown][] = [];
    for (const is of ['lost', 'restored']) {
      const listener = (event: unknown) => void told.push([is, event]);
      subscribe(`blockdev:nbd:${is}`, listener);
      onTestFinished(() => void unsubscribe(`blockdev:nbd:${is}`, listener));
    }
    const file = join(folder, 'told');
    const path = `${file}.sock`;
    writeFileSync(file, new Uint8Array(1 << 20));
    let server = startServer(path, file);
    const image = await openSoon(path);
    const { driver } = drive(image);
    const exportName = 'disk';
    for (const resent of [1, 0]) {
      if (resent > 0) expect(await driver.run(BlockOp.write, 0, 4096)).toBe(4096);
      server.kill('SIGKILL');
      await vi.waitFor(() => expect(told).toHaveLength(1));
      expect(told[0]).toEqual(['lost', { path, exportName, reason: undefined, inFlight: 0 }]);
      const read = driver.run(BlockOp.read, 0, 4096);
      // The client looks for it several times in vain.
      await delay(350);
      rmSync(path, { force: true });
      server = startServer(path, file);
      expect(await read).toBe(4096);
      const awayMs = expect.any(Number);
      expect(told.slice(1)).toEqual([['restored', { path, exportName, awayMs, resent, lostWrites: false }]]);
      expect((told[1][1] as { awayMs: number }).awayMs).toBeGreaterThan(300);
      await driver.run(BlockOp.flush, 0, 0);
      told.length = 0;
    }
    await image.close();
    server.kill('SIGKILL');
    await once(server, 'exit');
    expect(told).toEqual([]);
  });

  test('operations fail when the server stays away', async () => {
    const file = join(folder, 'gone');
    const socket = `${file}.sock`;
    writeFileSync(file, new Uint8Array(1 << 20));
    const server = startServer(socket, file);
    const image = await openSoon(socket, { reconnect: 150 });
    const { driver } = drive(image);
    server.kill('SIGKILL');
    await once(server, 'exit');
    expect(await driver.run(BlockOp.read, 0, 4096)).toBeLessThan(0);
    expect(await driver.run(BlockOp.read, 0, 4096)).toBeLessThan(0);
    await image.close();
  });

  test('an export that is read-only, or not there', async () => {
    const file = join(folder, 'refused');
    const socket = `${file}.sock`;
    writeFileSync(file, new Uint8Array(1 << 20));
    startServer(socket, file, false);
    await expect(openSoon(socket)).rejects.toMatchObject({ code: 'EROFS' });
    await (await openSoon(socket, { readOnly: true })).close();
    await expect(openSoon(socket, { exportName: 'other' })).rejects.toMatchObject({ code: 'ERR_NBD' });
  });
});

describe('what is no NBD server', () => {
  async function listen(greeting: string): Promise<{ socket: string; server: Server }> {
    const socket = join(folder, `server-${files++}`);
    const server = createServer((client) => {
      client.on('error', () => {});
      client.write(greeting);
    });
    server.listen(socket);
    await once(server, 'listening');
    return { socket, server };
  }

  test('nothing there', async () => {
    await expect(openNbdImage(join(folder, 'nothing'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('something else', async () => {
    const { socket, server } = await listen('SSH-2.0-OpenSSH_9.2p1 and more');
    await expect(openNbdImage(socket)).rejects.toMatchObject({ code: 'ERR_NBD' });
    server.close();
  });

  test('silence, until one has had enough', async () => {
    const { socket, server } = await listen('NBD');
    const opening = openNbdImage(socket, { signal: AbortSignal.timeout(30) });
    await expect(opening).rejects.toMatchObject({ name: 'TimeoutError' });
    server.close();
  });
});
