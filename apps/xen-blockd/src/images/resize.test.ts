import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { QmpClient } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect, onTestFinished } from 'vitest';
import { TestDaemon } from '../testing/daemon.js';
import { processesWith } from '../testing/storage-helpers.js';
import { runTool } from '../tools.js';
import { driverOf } from './storage-daemon/arguments.js';

const MIB = 1 << 20;

let daemon: TestDaemon;

beforeEach(async () => {
  daemon = await TestDaemon.create();
});
afterEach(() => daemon[Symbol.asyncDispose]());

const qemu = needs('qemu-img', 'qemu-storage-daemon', 'Linux');

async function start(threads = 0): Promise<Promise<number>[]> {
  const ended = daemon.start({ threads });
  await daemon.says('ready');
  return [ended];
}

/** A guest's disk of 4 MiB. */
async function attach(format: string) {
  const path = daemon.host.path(`disk.${format}`);
  expect(await runTool('qemu-img', ['create', '-f', driverOf(format), path, '4M'])).toMatchObject({ code: 0 });
  const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
  await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: `${format}:${path}` });
  const guest = await daemon.host.connectGuest(domid);
  return { path, domid, guest, device: `qdisk-${domid}-51712` };
}

async function execute(command: string, args: object = {}): Promise<unknown> {
  const client = await QmpClient.connect(daemon.host.path('control'));
  try {
    return await client.execute(command, args);
  } finally {
    client.close();
  }
}

/** A guest that writes until it is told to end, and reads what it wrote; its number of writes. */
function writeOn(guest: Awaited<ReturnType<typeof attach>>['guest']): () => Promise<number> {
  let isOver = false;
  const writing = (async () => {
    let writes = 0;
    for (; !isOver; writes++) {
      const data = randomBytes(4096);
      const at = (writes % 64) * 4096;
      await guest.write(at, data);
      expect(Buffer.from(await guest.read(at, 4096)).equals(data)).toBe(true);
    }
    return writes;
  })();
  return () => {
    isOver = true;
    return writing;
  };
}

qemu.it.each([0, 1])('a qcow2 image grows under a guest that writes, with %s threads', async (threads) => {
  const [ended] = await start(threads);
  const { guest, device, path, domid } = await attach('qcow2');
  const end = writeOn(guest);
  for (const size of [8 * MIB, 8 * MIB, 12 * MIB]) await execute('block_resize', { device, size });
  await expect.poll(() => guest.size).toBe(12 * MIB);
  expect(await end()).toBeGreaterThan(0);
  const data = randomBytes(MIB);
  await guest.write(11 * MIB, data);
  await guest.flush();
  // The next helper knows it too.
  for (const pid of processesWith(path)) process.kill(pid, 'SIGKILL');
  expect(Buffer.from(await guest.read(11 * MIB, MIB)).equals(data)).toBe(true);
  await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
  daemon.stop();
  expect(await ended).toBe(0);
  const info = JSON.parse((await runTool('qemu-img', ['info', '--output=json', path])).stdout);
  expect(info['virtual-size']).toBe(12 * MIB);
});

qemu.it('two that are told at once come one after the other', async () => {
  await start();
  const { guest, device } = await attach('qcow2');
  const sizes = [5, 6, 7, 8].map((size) => size * MIB);
  const told = await Promise.allSettled(sizes.map((size) => execute('block_resize', { device, size })));
  expect(told.filter(({ status }) => status === 'rejected')).toEqual([]);
  await expect.poll(() => guest.size).toBe(8 * MIB);
  await guest.write(8 * MIB - 4096, randomBytes(4096));
});

qemu.it('is not made smaller while it is in use, and a size that is none is refused', async () => {
  await start();
  const { guest, device } = await attach('qcow2');
  const refused = (size: number) => expect(execute('block_resize', { device, size })).rejects;
  await refused(MIB).toThrow(/is not made smaller while it is in use \(4194304 to 1048576 bytes\); stop its guest/);
  await refused(4 * MIB + 100).toThrow('expected a multiple of 512 bytes');
  await refused(2 ** 52).toThrow(/disk.qcow2: /);
  const data = randomBytes(4096);
  await guest.write(4 * MIB - 4096, data);
  expect(Buffer.from(await guest.read(4 * MIB - 4096, 4096)).equals(data)).toBe(true);
  expect(guest.size).toBe(4 * MIB);
});

qemu.it('a format that QEMU does not resize says so, and goes on', async () => {
  await start();
  const { guest, device } = await attach('vmdk');
  await expect(execute('block_resize', { device, size: 8 * MIB })).rejects.toThrow(/vmdk: .*resize/);
  await guest.write(0, randomBytes(4096));
  expect(guest.size).toBe(4 * MIB);
});

qemu.it('while its helper is away it is not resized, and the next try is', async () => {
  await start();
  const { guest, device, path } = await attach('qcow2');
  for (const pid of processesWith(path)) process.kill(pid, 'SIGSTOP');
  const late = execute('block_resize', { device, size: 8 * MIB });
  await sleep(100);
  for (const pid of processesWith(path)) process.kill(pid, 'SIGKILL');
  await expect(late).rejects.toThrow(/its size may have changed: .*; try again, or refresh the disk/);
  await guest.read(0, 4096);
  await execute('block_resize', { device, size: 8 * MIB });
  await expect.poll(() => guest.size).toBe(8 * MIB);
});

qemu.it('a helper that an earlier process has started is resized too', async () => {
  const [ended] = await start();
  const { guest, path, device } = await attach('qcow2');
  await execute('block_resize', { device, size: 8 * MIB });
  daemon.stop();
  expect(await ended).toBe(0);
  await start();
  await guest.write(8 * MIB - 4096, randomBytes(4096));
  await execute('block_resize', { device, size: 9 * MIB });
  await expect.poll(() => guest.size).toBe(9 * MIB);
  expect(processesWith(path)).toHaveLength(1);
});

qemu.it('an NBD server whose export grew is seen by refresh', async () => {
  await start();
  const path = daemon.host.path('raw');
  const socket = daemon.host.path('nbd');
  const serve = async (size: string) => {
    await runTool('qemu-img', size.startsWith('+') ? ['resize', '-f', 'raw', path, size] : ['create', path, size]);
    const node = `driver=file,node-name=disk,filename=${path}`;
    const listening = ['--nbd-server', `addr.type=unix,addr.path=${socket},max-connections=0`];
    const exported = ['--export', 'type=nbd,id=disk,node-name=disk,name=disk,writable=on'];
    rmSync(socket, { force: true });
    const args = ['--daemonize', '--blockdev', node, ...listening, ...exported];
    expect(await runTool('qemu-storage-daemon', args)).toMatchObject({ code: 0 });
  };
  const stop = async () => {
    for (const pid of processesWith(path)) process.kill(pid, 'SIGTERM');
    await expect.poll(() => processesWith(path)).toEqual([]);
  };
  onTestFinished(stop);
  await serve('4M');
  const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
  await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: `nbd+unix:///disk?socket=${socket}` });
  const guest = await daemon.host.connectGuest(domid);
  await guest.write(0, randomBytes(4096));
  await stop();
  await serve('+4M');
  await guest.write(4096, randomBytes(4096));
  expect(guest.size).toBe(4 * MIB);
  await execute('x-refresh', {});
  await expect.poll(() => guest.size).toBe(8 * MIB);
  await guest.write(8 * MIB - 4096, randomBytes(4096));
  await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
  await stop();
});
