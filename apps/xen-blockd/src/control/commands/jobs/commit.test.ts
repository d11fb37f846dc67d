import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
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

beforeEach(async () => {
  daemon = await TestDaemon.create();
  ({ client, events } = await daemon.startControlled({}, { answerMs: 60_000 }));
});
afterEach(async () => {
  client.close();
  await daemon[Symbol.asyncDispose]();
});

const path = (name: string) => daemon.host.path(name);
const execute = (command: string, args: object = {}) => client.execute(command, args);
const jobs = () => execute('query-block-jobs');
const told = (name: string) => events.filter(({ event }) => event === name).map(({ data }) => data);
const ready = (times = 1) => expect.poll(() => told('BLOCK_JOB_READY'), SOON).toHaveLength(times);
const ended = (times = 1) => expect.poll(() => told('BLOCK_JOB_COMPLETED'), SOON).toHaveLength(times);
const info = async (name: string) =>
  JSON.parse((await runTool('qemu-img', ['info', '-U', '--output=json', path(name)])).stdout);

/** A guest with an image on these snapshots, the oldest one first; it has written something into each. */
async function attach(...snapshots: string[]) {
  await runTool('qemu-img', ['create', '-f', 'qcow2', path('disk.qcow2'), '8M']);
  const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
  await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: `qcow2:${path('disk.qcow2')}` });
  const guest = await daemon.host.connectGuest(domid);
  const device = `qdisk-${domid}-51712`;
  const content = Buffer.alloc(8 * MIB);
  const write = async (at: number, bytes = 64 << 10) => {
    const data = randomBytes(bytes);
    data.copy(content, at);
    await guest.write(at, data);
  };
  for (const [i, name] of snapshots.entries()) {
    for (const at of [0, MIB, (2 + i) * MIB]) await write(at, 256 << 10);
    await execute('x-snapshot', { disk: device, filename: path(name) });
  }
  for (const at of [0, 6 * MIB]) await write(at, 512 << 10);
  const isRight = async () => Buffer.from(await guest.read(0, 8 * MIB)).equals(content);
  return { guest, device, content, domid, write, isRight, detach: () => detach(domid) };
}

const detach = (domid: number) => daemon.host.host.toolstack.detachDisk(domid, 'xvda');

/** What QEMU reads of the image, which nobody has any more. */
async function contentOf(name: string): Promise<Buffer> {
  const args = ['convert', '-f', 'qcow2', '-O', 'raw', path(name), path('read')];
  // A process that ends has its locks for a moment still.
  await expect.poll(async () => (await runTool('qemu-img', args)).code, SOON).toBe(0);
  return readFileSync(path('read'));
}

const qemu = needs('qemu-img', 'qemu-storage-daemon', 'Linux');

qemu.describe('block-commit', () => {
  it('of the image itself gives its name to the base, while its guest goes on', async () => {
    const { device, content, write, isRight, detach } = await attach('monday.qcow2');
    await execute('block-commit', { device, 'job-id': 'c', speed: 8 * MIB });
    await write(3 * MIB);
    await ready();
    expect(told('BLOCK_JOB_READY')).toMatchObject([{ device: 'c', type: 'commit' }]);
    expect(await jobs()).toMatchObject([{ device: 'c', type: 'commit', ready: true, status: 'ready' }]);
    // What comes later is copied too.
    for (let i = 0; i < 8; i++) await write(i * MIB);
    await execute('block-job-complete', { device: 'c' });
    await ended();
    expect(told('BLOCK_JOB_COMPLETED')[0]).not.toHaveProperty('error');
    expect(await jobs()).toEqual([]);
    expect(existsSync(path('monday.qcow2'))).toBe(false);
    expect(await info('disk.qcow2')).not.toHaveProperty('backing-filename');
    await write(4 * MIB);
    expect(await isRight()).toBe(true);
    for (const pid of processesWith(path('disk.qcow2'))) process.kill(pid, 'SIGKILL');
    expect(await isRight()).toBe(true);
    await detach();
    expect((await contentOf('disk.qcow2')).equals(content)).toBe(true);
  });

  it('of the image itself into one in the middle keeps what is below that', async () => {
    const { device, content, write, isRight, detach } = await attach('a.qcow2', 'b.qcow2', 'c.qcow2');
    await execute('block-commit', { device, base: path('b.qcow2') });
    await ready();
    await execute('job-complete', { id: device });
    await ended();
    expect(await info('disk.qcow2')).toMatchObject({ 'backing-filename': 'a.qcow2' });
    await write(5 * MIB);
    expect(await isRight()).toBe(true);
    // It goes on from there.
    await execute('block-commit', { device, base: 'a.qcow2' });
    await ready(2);
    await execute('block-job-complete', { device });
    await ended(2);
    rmSync(path('c.qcow2'));
    await detach();
    expect((await contentOf('disk.qcow2')).equals(content)).toBe(true);
  });

  it('of a layer in the middle leaves it out', async () => {
    const { device, content, write, isRight, detach } = await attach('a.qcow2', 'b.qcow2', 'c.qcow2', 'd.qcow2');
    // Neither the image nor the lowest one has a part in it.
    await execute('block-commit', { device, top: path('c.qcow2'), base: path('b.qcow2') });
    await ended();
    expect(await info('d.qcow2')).toMatchObject({ 'backing-filename': 'b.qcow2', 'backing-filename-format': 'qcow2' });
    expect(await isRight()).toBe(true);
    rmSync(path('c.qcow2'));
    // That of the image is changed while the guest uses it.
    await execute('block-commit', { device, top: path('d.qcow2') });
    await ended(2);
    expect(told('BLOCK_JOB_READY')).toEqual([]);
    expect(await info('disk.qcow2')).toMatchObject({ 'backing-filename': 'a.qcow2' });
    for (const name of ['b.qcow2', 'd.qcow2']) rmSync(path(name));
    await write(5 * MIB);
    for (const pid of processesWith(path('disk.qcow2'))) process.kill(pid, 'SIGKILL');
    expect(await isRight()).toBe(true);
    await detach();
    expect((await contentOf('disk.qcow2')).equals(content)).toBe(true);
  });

  it('of layers whose names have a colon, as times do, leaves an image that can be opened', async () => {
    const { device, isRight, detach } = await attach('at 09:00.qcow2', 'at 10:00.qcow2');
    expect(await info('at 10:00.qcow2')).toMatchObject({ 'backing-filename': './at 09:00.qcow2' });
    await execute('block-commit', { device, top: path('at 10:00.qcow2') });
    await ended();
    expect(await info('disk.qcow2')).toMatchObject({ 'backing-filename': './at 09:00.qcow2' });
    for (const pid of processesWith(path('disk.qcow2'))) process.kill(pid, 'SIGKILL');
    expect(await isRight()).toBe(true);
    await detach();
  });

  it('that is cancelled, before or after it is ready, changes nothing for the guest', async () => {
    const { device, content, write, isRight, detach } = await attach('monday.qcow2');
    await execute('block-commit', { device, speed: SLOW });
    for (const [command, args] of [
      ['block-commit', { device, 'job-id': 'other' }],
      ['block-stream', { device, 'job-id': 'other' }],
      ['x-snapshot', { disk: device, filename: path('x.qcow2') }],
      ['block_resize', { device, size: 16 * MIB }],
    ] as const) {
      await expect(execute(command, args)).rejects.toThrow(/\(commit\) runs|in use|block job/);
    }
    await expect(execute('block-job-complete', { device })).rejects.toThrow('cannot be completed');
    await execute('block-job-cancel', { device });
    await expect.poll(() => told('BLOCK_JOB_CANCELLED'), SOON).toMatchObject([{ device, type: 'commit' }]);
    await write(MIB);
    expect(await isRight()).toBe(true);
    await execute('block-commit', { device });
    await ready();
    await execute('block-job-cancel', { device });
    await ended();
    expect(await info('disk.qcow2')).toMatchObject({ 'backing-filename': 'monday.qcow2' });
    await write(2 * MIB);
    expect(await isRight()).toBe(true);
    await detach();
    expect((await contentOf('disk.qcow2')).equals(content)).toBe(true);
  });

  it('ends with its helper, or with the disk, which has all its data', async () => {
    const { device, content, write, isRight, detach } = await attach('monday.qcow2');
    await execute('block-commit', { device, speed: SLOW });
    for (const pid of processesWith(path('disk.qcow2'))) process.kill(pid, 'SIGKILL');
    await write(MIB);
    expect(await isRight()).toBe(true);
    await expect.poll(jobs, SOON).toEqual([]);
    await expect
      .poll(() => execute('block-commit', { device, speed: SLOW }).then(() => 'begun', String), SOON)
      .toBe('begun');
    await write(2 * MIB);
    await detach();
    expect((await contentOf('disk.qcow2')).equals(content)).toBe(true);
  });

  it('whose base cannot have the name says so when it is completed, and the disk goes on as it was', async () => {
    const { device, content, write, isRight, detach } = await attach('monday.qcow2');
    await execute('block-commit', { device });
    await ready();
    renameSync(path('monday.qcow2'), path('away.qcow2'));
    await expect(execute('block-job-complete', { device })).rejects.toThrow(/ENOENT|no such file/i);
    renameSync(path('away.qcow2'), path('monday.qcow2'));
    await expect.poll(() => told('BLOCK_JOB_COMPLETED'), SOON).toMatchObject([{ device, error: /ENOENT|no such/i }]);
    await write(3 * MIB);
    expect(await isRight()).toBe(true);
    await detach();
    expect((await contentOf('disk.qcow2')).equals(content)).toBe(true);
  });
});

describe('is refused', () => {
  qemu.it(
    'without a backing file, for layers that there are not, in the wrong order, and into a raw base',
    async () => {
      await runTool('qemu-img', ['create', '-f', 'raw', path('base.raw'), '8M']);
      await runTool('qemu-img', ['create', '-f', 'qcow2', '-F', 'raw', '-b', 'base.raw', path('disk.qcow2')]);
      const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
      await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: `qcow2:${path('disk.qcow2')}` });
      const guest = await daemon.host.connectGuest(domid);
      const device = `qdisk-${domid}-51712`;
      const refused = (args: object, reason: string | RegExp) =>
        expect(execute('block-commit', { device, ...args })).rejects.toThrow(reason);
      await refused({}, /is of format raw, and would get the name of an image of format qcow2/);
      await refused({ base: 'none' }, 'the base none is not found; the image is made of');
      await refused({ top: path('base.raw'), base: path('disk.qcow2') }, /is above .* not below it/);
      await refused({ top: path('base.raw') }, 'cannot commit an image into itself');
      await refused({ base: 'base.raw', 'base-node': 'layer-1' }, 'mutually exclusive');
      await execute('x-snapshot', { disk: device, filename: path('monday.qcow2') });
      // One in the middle may be written into whatever QEMU can write.
      const data = randomBytes(4096);
      await guest.write(0, data);
      await execute('block-commit', { device, top: path('monday.qcow2') });
      await ended();
      expect(await info('disk.qcow2')).toMatchObject({
        'backing-filename': 'base.raw',
        'backing-filename-format': 'raw',
      });
      expect(Buffer.from(await guest.read(0, 4096)).equals(data)).toBe(true);
      await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
    },
  );

  qemu.it('into a base in another folder that has a backing file of its own', async () => {
    mkdirSync(path('sub'));
    await runTool('qemu-img', ['create', '-f', 'qcow2', path('sub/a.qcow2'), '8M']);
    await runTool('qemu-img', ['create', '-f', 'qcow2', '-F', 'qcow2', '-b', 'a.qcow2', path('sub/b.qcow2')]);
    await runTool('qemu-img', ['create', '-f', 'qcow2', '-F', 'qcow2', '-b', 'sub/b.qcow2', path('disk.qcow2')]);
    const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
    await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: `qcow2:${path('disk.qcow2')}` });
    await daemon.host.connectGuest(domid);
    const device = `qdisk-${domid}-51712`;
    const reason = /is in another folder than the image, and has a backing file/;
    await expect(execute('block-commit', { device, base: 'sub/b.qcow2' })).rejects.toThrow(reason);
    expect(readdirSync(path('sub')).sort()).toEqual(['a.qcow2', 'b.qcow2']);
  });

  it('a raw image, which has no layers', async () => {
    writeFileSync(path('raw'), Buffer.alloc(MIB));
    const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
    await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: path('raw') });
    await daemon.host.connectGuest(domid);
    const device = `qdisk-${domid}-51712`;
    await expect(execute('block-commit', { device })).rejects.toThrow('has no layers to commit: its image is raw');
    await expect(execute('block-job-complete', { device })).rejects.toMatchObject({ class: 'DeviceNotActive' });
  });
});
