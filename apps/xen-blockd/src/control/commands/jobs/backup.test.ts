import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { memoryImage, nbdDiskOf } from '@xenpv/blockdev';
import { NbdServer } from '@xenpv/nbd';
import type { QmpClient, QmpEvent } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Config } from '../../../daemon/config.js';
import { TestDaemon } from '../../../testing/daemon.js';
import { processesWith } from '../../../testing/storage-helpers.js';
import { runTool } from '../../../tools.js';

const MIB = 1 << 20;
const SOON = { timeout: 10_000, interval: 20 };
const SLOW = 65_536;

let daemon: TestDaemon;
let client: QmpClient;
let events: QmpEvent[];

async function start(config: Partial<Config> = {}) {
  ({ client, events } = await daemon.startControlled(config));
}

beforeEach(async () => {
  daemon = await TestDaemon.create();
  mkdirSync(path('backup'));
});
afterEach(async () => {
  client.close();
  await daemon[Symbol.asyncDispose]();
});

const path = (name: string) => daemon.host.path(name);
const execute = (command: string, args: object = {}) => client.execute(command, args);
const told = (name: string) => events.filter(({ event }) => event === name).map(({ data }) => data);
const ended = (name: string, times = 1) => expect.poll(() => told(name), SOON).toHaveLength(times);
const inBackup = () => readdirSync(path('backup'));

const attach = (name = 'xvda') => daemon.attachQcow2(path(`${name}.qcow2`), `guest-${name}`);

/** What is in an image, as QEMU reads it: only when nobody has it any more. */
async function contentOf(name: string, format = 'qcow2'): Promise<Buffer> {
  const { code, stderr } = await runTool('qemu-img', ['convert', '-f', format, '-O', 'raw', path(name), path('read')]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return readFileSync(path('read'));
}

const qemu = needs('qemu-img', 'qemu-storage-daemon', 'Linux');

qemu.describe('backups of a qcow2 disk in use', () => {
  beforeEach(() => start());

  it('have what the guest had written when they began, and nothing of later', async () => {
    const { guest, device, content } = await attach();
    const target = path('backup/full.qcow2');
    await execute('drive-backup', { device, target, sync: 'full', speed: MIB, 'job-id': 'nightly' });
    expect(inBackup()).toEqual(['.full.qcow2.unfinished']);
    for (let i = 0; i < 4; i++) await guest.write((3 - i) * MIB, randomBytes(64 << 10));
    expect(await execute('query-block-jobs')).toMatchObject([{ device: 'nightly', type: 'backup', len: 8 * MIB }]);
    await execute('block-job-set-speed', { device: 'nightly', speed: 0 });
    await ended('BLOCK_JOB_COMPLETED');
    expect(told('BLOCK_JOB_COMPLETED')).toMatchObject([{ device: 'nightly', type: 'backup', len: 8 * MIB }]);
    expect(await execute('query-block-jobs')).toEqual([]);
    expect(inBackup()).toEqual(['full.qcow2']);
    expect((await contentOf('backup/full.qcow2')).equals(content)).toBe(true);
    expect(processesWith('full.qcow2')).toEqual([]);
  });

  it('have only what was written since the last one, by a dirty bitmap', async () => {
    const { guest, device, content } = await attach();
    await execute('block-dirty-bitmap-add', { node: device, name: 'daily', persistent: true });
    await execute('drive-backup', { device, target: path('backup/full.raw'), format: 'raw', sync: 'full' });
    await ended('BLOCK_JOB_COMPLETED');
    const since = randomBytes(64 << 10);
    since.copy(content, MIB);
    await guest.write(MIB, since);
    expect(await execute('query-block')).toMatchObject([
      { inserted: { 'dirty-bitmaps': [{ name: 'daily', count: 64 << 10, recording: true, persistent: true }] } },
    ]);
    expect(await execute('query-named-block-nodes')).toMatchObject([{ 'dirty-bitmaps': [{ name: 'daily' }] }]);
    const incremental = { device, target: path('backup/1.qcow2'), sync: 'incremental', bitmap: 'daily' };
    await execute('drive-backup', incremental);
    await ended('BLOCK_JOB_COMPLETED', 2);
    expect(await execute('query-block')).toMatchObject([{ inserted: { 'dirty-bitmaps': [{ count: 0 }] } }]);
    const onto = ['rebase', '-u', '-F', 'raw', '-b', path('backup/full.raw'), path('backup/1.qcow2')];
    expect(await runTool('qemu-img', onto)).toMatchObject({ code: 0 });
    expect((await contentOf('backup/1.qcow2')).equals(content)).toBe(true);
    // Of the new file only what was dirty is taken.
    const { stdout } = await runTool('qemu-img', ['map', '--output=json', path('backup/1.qcow2')]);
    const own = JSON.parse(stdout).filter(({ depth }: { depth: number }) => depth === 0);
    expect(own).toMatchObject([{ start: MIB, length: 64 << 10 }]);
  });

  it('that are cancelled, or whose target fails, leave nothing, and their bitmap remembers', async () => {
    const { guest, device, domid } = await attach();
    await execute('block-dirty-bitmap-add', { node: device, name: 'b' });
    await guest.write(0, randomBytes(2 * MIB));
    const task = { device, target: path('backup/1.qcow2'), sync: 'incremental', bitmap: 'b', speed: SLOW };
    await execute('drive-backup', task);
    for (const command of ['drive-backup', 'block-stream']) {
      const another = command === 'drive-backup' ? { ...task, 'job-id': 'other' } : { device, 'job-id': 'other' };
      await expect(execute(command, another)).rejects.toThrow(/block job|nothing to fetch/);
    }
    await expect(execute('drive-backup', task)).rejects.toThrow(`Job ID '${device}' already in use`);
    await expect(execute('block-dirty-bitmap-remove', { node: device, name: 'b' })).rejects.toThrow(/in use/);
    await expect(execute('block_resize', { device, size: 16 * MIB })).rejects.toThrow(/block job .* \(backup\) runs/);
    await expect(execute('x-snapshot', { disk: device, filename: path('s.qcow2') })).rejects.toThrow(/\(backup\) runs/);
    await execute('block-job-cancel', { device });
    await ended('BLOCK_JOB_CANCELLED');
    expect(inBackup()).toEqual([]);
    await execute('drive-backup', task);
    for (const pid of processesWith('.1.qcow2.unfinished')) process.kill(pid, 'SIGKILL');
    await expect
      .poll(() => told('BLOCK_JOB_COMPLETED'), SOON)
      .toMatchObject([{ error: expect.stringContaining('the storage helper of') }]);
    await expect.poll(inBackup, SOON).toEqual([]);
    expect(await execute('query-block')).toMatchObject([{ inserted: { 'dirty-bitmaps': [{ count: 2 * MIB }] } }]);
    await execute('drive-backup', { ...task, speed: 0 });
    await ended('BLOCK_JOB_COMPLETED', 2);
    expect(inBackup()).toEqual(['1.qcow2']);
    await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
  });

  it('end with the disk, or its helper, and leave nothing', async () => {
    const { guest, device, domid, image } = await attach();
    const task = { device, target: path('backup/full.qcow2'), sync: 'full', speed: SLOW };
    await execute('drive-backup', task);
    for (const pid of processesWith(image)) process.kill(pid, 'SIGKILL');
    await guest.write(0, randomBytes(4096));
    await expect.poll(() => [inBackup(), processesWith('full.qcow2')], SOON).toEqual([[], []]);
    await expect.poll(() => execute('drive-backup', task).then(() => 'begun', String), SOON).toBe('begun');
    await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
    await expect.poll(() => [inBackup(), processesWith('full.qcow2')], SOON).toEqual([[], []]);
  });

  it('to what blockdev-add has named are written there', async () => {
    const { device, content } = await attach();
    await runTool('qemu-img', ['create', '-f', 'qcow2', path('backup/t.qcow2'), '8M']);
    const file = { driver: 'file', filename: path('backup/t.qcow2') };
    await execute('blockdev-add', { driver: 'qcow2', 'node-name': 't', file });
    await expect(execute('blockdev-backup', { device, target: 'none', sync: 'full' })).rejects.toThrow(
      /Failed to find node/,
    );
    await execute('blockdev-backup', { device, target: 't', sync: 'full' });
    await ended('BLOCK_JOB_COMPLETED');
    expect((await contentOf('backup/t.qcow2')).equals(content)).toBe(true);
  });

  it('to an NBD server have all flushed before they end', async () => {
    const { device, content } = await attach();
    const disk = nbdDiskOf(memoryImage({ size: 8 * MIB }));
    const flush = disk.flush.bind(disk);
    let flushes = 0;
    disk.flush = async () => {
      flushes++;
      await flush();
    };
    const server = new NbdServer({ disk });
    await once(server.listener.listen(path('server')), 'listening');
    const target = `nbd+unix:///?socket=${path('server')}`;
    await expect(execute('drive-backup', { device, target, sync: 'full' })).rejects.toThrow('expected mode existing');
    await execute('drive-backup', { device, target, sync: 'full', mode: 'existing' });
    await ended('BLOCK_JOB_COMPLETED');
    expect(told('BLOCK_JOB_COMPLETED')).toMatchObject([{ device }]);
    expect(told('BLOCK_JOB_COMPLETED')[0]).not.toHaveProperty('error');
    expect(flushes).toBeGreaterThan(0);
    expect(Buffer.from(await disk.read(0, 8 * MIB)).equals(content)).toBe(true);
    await server.close();
    const gone = { device, target, sync: 'full', mode: 'existing' };
    await expect(execute('drive-backup', gone)).rejects.toMatchObject({ class: 'GenericError' });
    expect(await execute('query-block-jobs')).toEqual([]);
  });

  it('whose target is full end, and no write of the guest fails with them', async () => {
    const { guest, device, content } = await attach();
    const disk = nbdDiskOf(memoryImage({ size: 8 * MIB }));
    const write = disk.write.bind(disk);
    let isFull = false;
    disk.write = async (...args) => {
      if (isFull) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
      await write(...args);
    };
    await using server = new NbdServer({ disk });
    await once(server.listener.listen(path('server')), 'listening');
    const target = `nbd+unix:///?socket=${path('server')}`;
    await execute('drive-backup', { device, target, sync: 'full', mode: 'existing', speed: SLOW });
    isFull = true;
    const later = randomBytes(64 << 10);
    for (const at of [2 * MIB, 3 * MIB]) {
      later.copy(content, at);
      await guest.write(at, later);
    }
    const reason = expect.stringMatching(
      /a write of the guest has failed \(ENOSPC\), as it does when the target takes no/,
    );
    await expect.poll(() => told('BLOCK_JOB_COMPLETED'), SOON).toMatchObject([{ device, error: reason }]);
    expect(await execute('query-block')).toMatchObject([{ device }]);
    expect(Buffer.from(await guest.read(0, 8 * MIB)).equals(content)).toBe(true);
    await expect.poll(() => daemon.lines.map(({ event }) => event), SOON).toContain('xen-block:device:resumed');
  });
});

describe('what is refused', () => {
  qemu.it(
    'a target that is there, is nowhere, is the image itself, in use or of another size, and a bitmap that is not there',
    async () => {
      await start();
      const [{ device, image }, other] = [await attach(), await attach('other')];
      const refused = (target: string, reason: string | RegExp, more: object = {}) =>
        expect(execute('drive-backup', { device, target, sync: 'full', ...more })).rejects.toThrow(reason);
      writeFileSync(path('backup/there'), 'mine');
      await refused(path('backup/there'), 'it is there already; choose another name');
      await refused(path('nowhere/a'), 'its folder is not there');
      await refused('a.qcow2', 'expected a whole path');
      await refused(image, "it is the disk's own image");
      symlinkSync(image, path('backup/link'));
      await refused(path('backup/link'), "it is the disk's own image", { mode: 'existing' });
      await refused(other.image, /lock|in use/i, { mode: 'existing' });
      await refused(path('backup'), /directory|already/, { mode: 'existing' });
      await runTool('qemu-img', ['create', '-f', 'qcow2', path('backup/small'), '4M']);
      await refused(path('backup/small'), /different size/i, { mode: 'existing' });
      await refused(path('backup/x'), /bitmap/i, { sync: 'incremental' });
      await refused(path('backup/x'), /bitmap/i, { sync: 'incremental', bitmap: 'none' });
      expect(readFileSync(path('backup/there'), 'utf8')).toBe('mine');
      expect(inBackup().sort()).toEqual(['link', 'small', 'there']);
      expect(await execute('query-block-jobs')).toEqual([]);
      await expect(execute('block-dirty-bitmap-clear', { node: device, name: 'b' })).rejects.toThrow(/not found/);
      await execute('block-dirty-bitmap-add', { node: device, name: 'b' });
      await expect(execute('block-dirty-bitmap-add', { node: device, name: 'b' })).rejects.toThrow(/already exists/);
    },
  );

  qemu.it('a target outside of image-directories, and a server of another host', async () => {
    mkdirSync(path('images'));
    await start({ 'image-directories': [path('images')] });
    await runTool('qemu-img', ['create', '-f', 'qcow2', path('images/a.qcow2'), '8M']);
    const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
    await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: `qcow2:${path('images/a.qcow2')}` });
    await daemon.host.connectGuest(domid);
    const device = `qdisk-${domid}-51712`;
    symlinkSync(path('backup'), path('images/out'));
    writeFileSync(path('backup/old'), '');
    truncateSync(path('backup/old'), 8 * MIB);
    const refused = (target: string, more: object = {}) =>
      expect(execute('drive-backup', { device, target, sync: 'full', ...more })).rejects.toThrow(/image-directories/);
    await refused(path('backup/a'));
    await refused(path('images/out/a'));
    await refused(path('images/../backup/a'));
    await refused(path('backup/old'), { mode: 'existing', format: 'raw' });
    await refused(path('images/out/old'), { mode: 'existing', format: 'raw' });
    await refused('nbd://127.0.0.1:9/x', { mode: 'existing' });
    expect(inBackup()).toEqual(['old']);
    await execute('drive-backup', { device, target: path('images/b.qcow2'), sync: 'full' });
    await ended('BLOCK_JOB_COMPLETED');
    expect(existsSync(path('images/b.qcow2'))).toBe(true);
  });

  it('a raw image, whose guest writes past any helper', async () => {
    await start();
    const { domid } = await daemon.attach();
    await daemon.host.connectGuest(domid);
    const device = `qdisk-${domid}-51712`;
    const backup = execute('drive-backup', { device, target: path('backup/a'), sync: 'full' });
    await expect(backup).rejects.toMatchObject({
      class: 'GenericError',
      message: expect.stringContaining('has no backup'),
    });
    await expect(execute('block-dirty-bitmap-add', { node: device, name: 'b' })).rejects.toThrow(
      'has no dirty bitmaps',
    );
    const nobody = execute('drive-backup', { device: 'none', target: path('backup/a'), sync: 'full' });
    await expect(nobody).rejects.toMatchObject({ class: 'DeviceNotFound' });
    expect(inBackup()).toEqual([]);
    rmSync(path('backup'), { recursive: true });
  });
});
