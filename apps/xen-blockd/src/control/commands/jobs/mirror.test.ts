import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { memoryImage, nbdDiskOf } from '@xenpv/blockdev';
import { NbdServer } from '@xenpv/nbd';
import type { QmpClient, QmpEvent } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestDaemon } from '../../../testing/daemon.js';
import { processesWith } from '../../../testing/storage-helpers.js';
import { runTool } from '../../../tools.js';

const MIB = 1 << 20;
const SOON = { timeout: 20_000, interval: 20 };
const SLOW = 65_536;

let daemon: TestDaemon;
let client: QmpClient;
let events: QmpEvent[];
let running: Promise<number>;

async function start(): Promise<void> {
  ({ client, events, ended: running } = await daemon.startControlled({}, { answerMs: 60_000 }));
}

beforeEach(async () => {
  daemon = await TestDaemon.create();
  mkdirSync(path('new'));
  await start();
});
afterEach(async () => {
  client.close();
  await daemon[Symbol.asyncDispose]();
});

const path = (name: string) => daemon.host.path(name);
const execute = (command: string, args: object = {}) => client.execute(command, args);
const told = (name: string) => events.filter(({ event }) => event === name).map(({ data }) => data);
const ready = (times = 1) => expect.poll(() => told('BLOCK_JOB_READY'), SOON).toHaveLength(times);
const ended = (times = 1) => expect.poll(() => told('BLOCK_JOB_COMPLETED'), SOON).toHaveLength(times);
const inNew = () => readdirSync(path('new'));

/** A guest that has written 4 MiB. */
async function attach() {
  const { guest, device, domid, image, content } = await daemon.attachQcow2(path('disk.qcow2'), 'guest');
  const write = async (at: number, bytes = 64 << 10) => {
    const data = randomBytes(bytes);
    data.copy(content, at);
    await guest.write(at, data);
  };
  const isRight = async () => Buffer.from(await guest.read(0, 8 * MIB)).equals(content);
  const params = () => daemon.host.store.read(`/local/domain/0/backend/qdisk/${domid}/51712/params`);
  const detach = () => daemon.host.host.toolstack.detachDisk(domid, 'xvda');
  return { guest, device, content, domid, image, write, isRight, params, detach };
}

/** What is in an image, as QEMU reads it: only when nobody has it any more. */
async function contentOf(name: string, format = 'qcow2'): Promise<Buffer> {
  const args = ['convert', '-f', format, '-O', 'raw', path(name), path('read')];
  await expect.poll(async () => (await runTool('qemu-img', args)).code, SOON).toBe(0);
  return readFileSync(path('read'));
}

const qemu = needs('qemu-img', 'qemu-storage-daemon', 'Linux');

qemu.describe('a mirror of a qcow2 disk in use', () => {
  it.each([
    ['qcow2', 'background'],
    ['raw', 'write-blocking'],
  ])(
    'to a %s file, copied in %s, is what the disk goes on with when it is completed',
    async (format, mode) => {
      const { guest, device, content, image, write, isRight, params, detach } = await attach();
      const target = path('new/disk');
      await execute('drive-mirror', { device, target, format, sync: 'full', 'job-id': 'move', 'copy-mode': mode });
      for (let i = 0; i < 8; i++) await write(i * MIB);
      await ready();
      expect(told('BLOCK_JOB_READY')).toMatchObject([{ device: 'move', type: 'mirror' }]);
      expect(inNew()).toEqual(['.disk.unfinished']);
      for (let i = 0; i < 8; i++) await write(i * MIB + (128 << 10));
      await execute('block-job-complete', { device: 'move' });
      await ended();
      expect(told('BLOCK_JOB_COMPLETED')[0]).not.toHaveProperty('error');
      expect(await execute('query-block-jobs')).toEqual([]);
      expect(inNew()).toEqual(['disk']);
      expect(await params()).toBe(format === 'raw' ? `aio:${target}` : `qcow2:${target}`);
      expect(await execute('query-block')).toMatchObject([{ inserted: { file: target, drv: format } }]);
      const before = await contentOf('disk.qcow2');
      expect(before.equals(content)).toBe(true);
      // The image that it was is nobody's any more.
      await write(0);
      expect(await isRight()).toBe(true);
      expect((await contentOf('disk.qcow2')).equals(before)).toBe(true);
      expect(processesWith(image)).toEqual([]);
      // The next process finds it.
      client.close();
      daemon.stop();
      expect(await running).toBe(0);
      await start();
      await write(MIB);
      await guest.flush();
      expect(await isRight()).toBe(true);
      expect(await execute('query-block')).toMatchObject([{ inserted: { file: target } }]);
      await detach();
      expect((await contentOf('new/disk', format)).equals(content)).toBe(true);
    },
    60_000,
  );

  it('that is cancelled when it is ready is a copy of that instant; before that nothing is left', async () => {
    const { device, content, write, isRight, params } = await attach();
    const before = await params();
    const task = { device, target: path('new/copy.qcow2'), sync: 'full' };
    await execute('drive-mirror', { ...task, speed: SLOW });
    await expect(execute('block-job-complete', { device })).rejects.toThrow('cannot be completed');
    await expect(execute('drive-mirror', { ...task, 'job-id': 'other' })).rejects.toThrow('(mirror) runs');
    await execute('block-job-cancel', { device });
    await expect.poll(() => told('BLOCK_JOB_CANCELLED'), SOON).toHaveLength(1);
    expect(inNew()).toEqual([]);
    await execute('drive-mirror', task);
    await ready();
    await write(5 * MIB);
    await execute('block-job-cancel', { device });
    await ended();
    expect(inNew()).toEqual(['copy.qcow2']);
    expect((await contentOf('new/copy.qcow2')).equals(content)).toBe(true);
    expect(await params()).toBe(before);
    await write(6 * MIB);
    expect(await isRight()).toBe(true);
    // Even one that is ready can be thrown away.
    await execute('drive-mirror', { ...task, target: path('new/other.qcow2') });
    await ready(2);
    await execute('block-job-cancel', { device, force: true });
    await expect.poll(() => told('BLOCK_JOB_CANCELLED'), SOON).toHaveLength(2);
    expect(inNew()).toEqual(['copy.qcow2']);
  });

  it('to what blockdev-add has named goes on there', async () => {
    const { device, write, isRight } = await attach();
    await runTool('qemu-img', ['create', '-f', 'qcow2', path('new/t.qcow2'), '8M']);
    const file = { driver: 'file', filename: path('new/t.qcow2') };
    await execute('blockdev-add', { driver: 'qcow2', 'node-name': 't', file });
    await execute('blockdev-mirror', { device, target: 't', sync: 'full' });
    await ready();
    await execute('job-complete', { id: device });
    await ended();
    await write(MIB);
    expect(await isRight()).toBe(true);
    expect(await execute('query-block')).toMatchObject([{ inserted: { file: path('new/t.qcow2'), drv: 'qcow2' } }]);
  });

  it('to an NBD server goes on there', async () => {
    const { device, content, write, isRight } = await attach();
    const disk = nbdDiskOf(memoryImage({ size: 8 * MIB }));
    await using server = new NbdServer({ disk });
    await once(server.listener.listen(path('server')), 'listening');
    const target = `nbd+unix:///?socket=${path('server')}`;
    await execute('drive-mirror', { device, target, sync: 'full', mode: 'existing', format: 'raw' });
    await ready();
    await execute('block-job-complete', { device });
    await ended();
    await write(3 * MIB);
    expect(await isRight()).toBe(true);
    expect(Buffer.from(await disk.read(0, 8 * MIB)).equals(content)).toBe(true);
  });

  it('whose target is full, or hangs, ends, and no write of the guest fails with it', async () => {
    const { device, write, isRight, params } = await attach();
    const before = await params();
    const disk = nbdDiskOf(memoryImage({ size: 8 * MIB }));
    const write_ = disk.write.bind(disk);
    let how: 'well' | 'full' | 'hanging' = 'well';
    let release = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    disk.write = async (...args) => {
      if (how === 'full') throw Object.assign(new Error('full'), { code: 'ENOSPC' });
      if (how === 'hanging') await released;
      await write_(...args);
    };
    await using server = new NbdServer({ disk });
    await once(server.listener.listen(path('server')), 'listening');
    const target = `nbd+unix:///?socket=${path('server')}`;
    const task = { device, target, sync: 'full', mode: 'existing', format: 'raw' };
    await execute('drive-mirror', task);
    await ready();
    how = 'full';
    await write(MIB);
    await expect.poll(() => told('BLOCK_JOB_COMPLETED'), SOON).toMatchObject([{ device, error: expect.anything() }]);
    await write(2 * MIB);
    how = 'well';
    await execute('drive-mirror', task);
    await ready(2);
    how = 'hanging';
    for (let i = 0; i < 4; i++) await write(i * MIB);
    expect(await isRight()).toBe(true);
    await execute('block-job-cancel', { device, force: true });
    await expect.poll(() => execute('query-block-jobs'), SOON).toEqual([]);
    await write(2 * MIB);
    expect(await isRight()).toBe(true);
    expect(await params()).toBe(before);
    release();
  }, 60_000);

  it('ends with its helper, or the target’s, and leaves nothing', async () => {
    const { device, write, isRight, image, detach } = await attach();
    const task = { device, target: path('new/a.qcow2'), sync: 'full' };
    for (const victim of [image, '.a.qcow2.unfinished']) {
      await expect.poll(() => execute('drive-mirror', task).then(() => 'begun', String), SOON).toBe('begun');
      await ready(victim === image ? 1 : 2);
      for (const pid of processesWith(victim)) process.kill(pid, 'SIGKILL');
      await write(MIB);
      await expect.poll(() => [inNew(), processesWith('a.qcow2')], SOON).toEqual([[], []]);
    }
    expect(await isRight()).toBe(true);
    await detach();
    expect(existsSync(image)).toBe(true);
  });
});

describe('is refused', () => {
  qemu.it('for what is no target, and from a backing file to a file that is made', async () => {
    const { device, image, isRight } = await attach();
    const refused = (args: object, reason: string | RegExp) =>
      expect(execute('drive-mirror', { device, sync: 'full', ...args })).rejects.toThrow(reason);
    await refused({ target: image }, "it is the disk's own image");
    await refused({ target: 'here' }, 'expected a whole path');
    await refused({ target: path('new/a'), sync: 'top' }, 'a target that has the same backing file is needed');
    await runTool('qemu-img', ['create', '-f', 'qcow2', path('new/small'), '4M']);
    await refused({ target: path('new/small'), mode: 'existing' }, /size|length/i);
    await expect(execute('blockdev-mirror', { device, target: 'none', sync: 'full' })).rejects.toThrow(
      /Failed to find node/,
    );
    expect(await execute('query-block-jobs')).toEqual([]);
    expect(await isRight()).toBe(true);
  });

  it('for a raw image', async () => {
    const { domid } = await daemon.attach();
    await daemon.host.connectGuest(domid);
    const device = `qdisk-${domid}-51712`;
    const mirror = execute('drive-mirror', { device, target: path('new/a'), sync: 'full' });
    await expect(mirror).rejects.toThrow('has no mirror: its image is raw');
  });
});
