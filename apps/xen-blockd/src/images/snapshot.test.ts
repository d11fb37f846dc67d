import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { QmpClient } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect } from 'vitest';
import type { Config } from '../daemon/config.js';
import { TestDaemon } from '../testing/daemon.js';
import { processesWith } from '../testing/storage-helpers.js';
import { runTool } from '../tools.js';

const MIB = 1 << 20;

let daemon: TestDaemon;

beforeEach(async () => {
  daemon = await TestDaemon.create();
});
afterEach(() => daemon[Symbol.asyncDispose]());

const qemu = needs('qemu-img', 'qemu-storage-daemon', 'Linux');
const path = (name: string) => daemon.host.path(name);

async function start(config: Partial<Config> = {}): Promise<{ ended: Promise<number> }> {
  const ended = daemon.start(config);
  await daemon.says('ready');
  return { ended };
}

async function stop({ ended }: { ended: Promise<number> }): Promise<void> {
  daemon.stop();
  expect(await ended).toBe(0);
}

async function attach(target = path('disk.qcow2'), format = 'qcow2', readOnly = false) {
  if (!existsSync(target)) await runTool('qemu-img', ['create', '-f', format, target, '4M']);
  const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
  await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: `${format}:${target}`, readOnly });
  const guest = await daemon.host.connectGuest(domid);
  return { guest, disk: `qdisk-${domid}-51712`, domid };
}

async function snapshot(disk: string, filename: string): Promise<unknown> {
  const client = await QmpClient.connect(path('control'));
  try {
    return await client.execute('x-snapshot', { disk, filename });
  } finally {
    client.close();
  }
}

/** What an image and its layers hold. */
async function contentOf(image: string): Promise<Buffer> {
  const raw = path('content');
  expect(await runTool('qemu-img', ['convert', '-U', '-f', 'qcow2', '-O', 'raw', image, raw])).toMatchObject({
    code: 0,
  });
  return readFileSync(raw);
}

qemu.it.each([0, 1])(
  'a snapshot has what the guest had written, and nothing of later, with %s threads',
  async (threads) => {
    const serving = await start({ threads });
    const { guest, disk, domid } = await attach();
    const content = Buffer.alloc(4 * MIB);
    const write = async (at: number) => {
      const data = randomBytes(64 << 10);
      data.copy(content, at);
      await guest.write(at, data);
    };
    const snapshots: [name: string, content: Buffer][] = [];
    for (const day of ['monday', 'tuesday', 'wednesday']) {
      for (const at of [0, MIB, 2 * MIB + 512 * snapshots.length]) await write(at);
      await snapshot(disk, path(`${day}.qcow2`));
      snapshots.push([day, Buffer.from(content)]);
      await write(MIB + (32 << 10));
      expect(Buffer.from(await guest.read(0, 4 * MIB)).equals(content)).toBe(true);
    }
    // Whatever starts its helper again finds all layers.
    for (const pid of processesWith(path('disk.qcow2'))) process.kill(pid, 'SIGKILL');
    expect(Buffer.from(await guest.read(0, 4 * MIB)).equals(content)).toBe(true);
    await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
    await stop(serving);
    for (const [day, then] of snapshots) expect((await contentOf(path(`${day}.qcow2`))).equals(then)).toBe(true);
    expect((await contentOf(path('disk.qcow2'))).equals(content)).toBe(true);
    expect(readdirSync(daemon.host.directory).filter((name) => name.startsWith('.'))).toEqual([]);
  },
);

qemu.it('a guest that does not stop writing notices nothing', async () => {
  const serving = await start();
  const { guest, disk, domid } = await attach();
  let isOver = false;
  const content = Buffer.alloc(MIB);
  const writing = (async () => {
    for (let i = 0; !isOver; i++) {
      const data = randomBytes(4096);
      const at = ((i * 7) % 256) * 4096;
      await guest.write(at, data);
      data.copy(content, at);
      if (i % 16 === 0) await guest.flush();
    }
  })();
  for (let i = 0; i < 4; i++) await snapshot(disk, path(`${i}.qcow2`));
  isOver = true;
  await writing;
  expect(Buffer.from(await guest.read(0, MIB)).equals(content)).toBe(true);
  await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
  await stop(serving);
  expect((await contentOf(path('disk.qcow2'))).subarray(0, MIB).equals(content)).toBe(true);
});

qemu.it('the next process serves the disk with its layers', async () => {
  const first = await start();
  const { guest, disk } = await attach();
  const data = randomBytes(MIB);
  await guest.write(0, data);
  await snapshot(disk, path('before.qcow2'));
  await guest.write(MIB, data);
  await stop(first);
  const second = await start();
  expect(Buffer.from(await guest.read(0, 2 * MIB)).equals(Buffer.concat([data, data]))).toBe(true);
  await snapshot(disk, path('later.qcow2'));
  await guest.write(0, randomBytes(4096));
  await stop(second);
});

qemu.it('an image that a link names has its layer where it is', async () => {
  await start({ 'image-directories': [daemon.host.directory] });
  mkdirSync(path('pool'));
  await runTool('qemu-img', ['create', '-f', 'qcow2', path('pool/real.qcow2'), '4M']);
  symlinkSync(path('pool/real.qcow2'), path('link.qcow2'));
  const { guest, disk } = await attach(path('link.qcow2'));
  const data = randomBytes(4096);
  await guest.write(0, data);
  await snapshot(disk, path('monday.qcow2'));
  expect(Buffer.from(await guest.read(0, 4096)).equals(data)).toBe(true);
  expect(readdirSync(path('pool'))).toEqual(['real.qcow2']);
});

qemu.it('a layer belongs to whom the image belongs to, and may be used by the same', async () => {
  await start();
  const image = path('disk.qcow2');
  await runTool('qemu-img', ['create', '-f', 'qcow2', image, '4M']);
  chmodSync(image, 0o640);
  if (process.geteuid?.() === 0) chownSync(image, 12, 34);
  const { uid, gid, mode } = statSync(image);
  const { guest, disk } = await attach(image);
  await snapshot(disk, path('monday.qcow2'));
  expect(statSync(image)).toMatchObject({ uid, gid, mode });
  expect(statSync(path('monday.qcow2'))).toMatchObject({ uid, gid, mode });
  await guest.write(0, randomBytes(4096));
});

qemu.describe('is refused, and the guest goes on', () => {
  async function refused(config: Partial<Config>, name: string, text: RegExp, format = 'qcow2'): Promise<void> {
    await start(config);
    const { guest, disk } = await attach(path(`disk.${format}`), format);
    const data = randomBytes(4096);
    await guest.write(0, data);
    await expect(snapshot(disk, name.startsWith('/') ? name : name && path(name))).rejects.toThrow(text);
    expect(Buffer.from(await guest.read(0, 4096)).equals(data)).toBe(true);
    await guest.write(4096, data);
    expect(readdirSync(daemon.host.directory).filter((each) => each.includes('new-layer'))).toEqual([]);
  }

  qemu.it('a name that is taken', async () => {
    writeFileSync(path('taken'), 'precious');
    await refused({}, 'taken', /taken is there already; choose another name/);
    expect(readFileSync(path('taken'), 'utf8')).toBe('precious');
  });
  qemu.it('its own name', () => refused({}, 'disk.qcow2', /is there already/));
  qemu.it('a folder that is not there', () => refused({}, 'none/x', /is in a folder that is not there/));
  qemu.it('no whole path', () => refused({}, '', /expected a whole path/));
  qemu.it('a folder beside the image', async () => {
    mkdirSync(path('beside'));
    const config = { 'image-directories': [path('images')] };
    mkdirSync(path('images'));
    await start(config);
    const { guest, disk } = await attach(path('images/disk.qcow2'));
    await expect(snapshot(disk, path('beside/x.qcow2'))).rejects.toThrow(/is not in one of image-directories/);
    await guest.write(0, randomBytes(4096));
    expect(readdirSync(path('images'))).toEqual(['disk.qcow2']);
    expect(readdirSync(path('beside'))).toEqual([]);
  });
  qemu.it('another file system, and it is undone', () => {
    const config = { 'image-directories': [daemon.host.directory, '/dev/shm'] };
    return refused(config, '/dev/shm/xen-blockd-test.qcow2', /on another file system/);
  });
  qemu.it('backing-files = false', () => refused({ 'backing-files': false }, 'x', /backing-files is false/));
  qemu.it('a raw image', () => refused({}, 'x', /of format raw have no snapshots here; qcow2 has/, 'raw'));
  qemu.it('a vmdk image', () => refused({}, 'x', /of format vmdk have no snapshots here/, 'vmdk'));

  qemu.it('a read-only disk', async () => {
    await start();
    const { disk } = await attach(path('disk.qcow2'), 'qcow2', true);
    await expect(snapshot(disk, path('x'))).rejects.toThrow('is read-only: it does not change');
  });

  qemu.it('two at once: one after the other, or not', async () => {
    await start();
    const { guest, disk } = await attach();
    const names = ['a', 'b', 'c'].map((name) => path(`${name}.qcow2`));
    const told = await Promise.allSettled(names.map((name) => snapshot(disk, name)));
    expect(told.some(({ status }) => status === 'fulfilled')).toBe(true);
    const data = randomBytes(4096);
    await guest.write(0, data);
    expect(Buffer.from(await guest.read(0, 4096)).equals(data)).toBe(true);
    for (const [i, { status }] of told.entries()) expect(existsSync(names[i])).toBe(status === 'fulfilled');
  });
});
