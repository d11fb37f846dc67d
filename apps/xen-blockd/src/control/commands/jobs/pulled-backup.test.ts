import { randomBytes } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import type { QmpClient, QmpEvent } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestDaemon } from '../../../testing/daemon.js';
import { processesWith } from '../../../testing/storage-helpers.js';
import { runTool } from '../../../tools.js';

const MIB = 1 << 20;
const SOON = { timeout: 10_000, interval: 20 };

let daemon: TestDaemon;
let client: QmpClient;
let events: QmpEvent[];

beforeEach(async () => {
  daemon = await TestDaemon.create();
  ({ client, events } = await daemon.startControlled());
  await execute('nbd-server-start', { addr: { type: 'unix', data: { path: path('nbd') } } });
});
afterEach(async () => {
  client.close();
  await daemon[Symbol.asyncDispose]();
});

const path = (name: string) => daemon.host.path(name);
const execute = (command: string, args: object = {}) => client.execute(command, args);
const uri = (name: string) => `nbd+unix:///${name}?socket=${path('nbd')}`;
const told = (name: string) => events.filter(({ event }) => event === name).map(({ data }) => data);
const attach = (name = 'xvda') => daemon.attachQcow2(path(`${name}.qcow2`), `guest-${name}`);
const toScratch = (device: string, more: object = {}) => ({ device, target: 'scratch', sync: 'none', ...more });
const exportScratch = (more: object = {}) =>
  execute('block-export-add', { type: 'nbd', id: 'pull', 'node-name': 'scratch', ...more });
const over = () => expect.poll(() => [processesWith('scratch.img').length, told('BLOCK_JOB_CANCELLED')], SOON);

async function tool(program: string, args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runTool(program, args);
  expect({ program, code, stderr: code === 0 ? '' : stderr }).toEqual({ program, code: 0, stderr: '' });
  return stdout;
}

/** What a client reads of the scratch image's export. */
async function pulled(): Promise<Buffer> {
  await tool('nbdcopy', [uri('scratch'), path('copy')]);
  return readFileSync(path('copy'));
}

/** A node on a file that is there, with what somebody has left in it. */
async function addScratch(device: string, name = 'scratch.img'): Promise<void> {
  writeFileSync(path(name), randomBytes(3 * MIB + 512));
  const file = { driver: 'file', filename: path(name) };
  await execute('blockdev-add', { driver: 'qcow2', 'node-name': 'scratch', file, backing: device });
}

const real = needs('qemu-img', 'qemu-storage-daemon', 'nbdcopy', 'nbdinfo', 'Linux');

real.describe('a backup that is pulled', () => {
  it('is the disk of one instant with the blocks that had changed, while its guest overwrites all of it', async () => {
    const { guest, device, content } = await attach();
    await execute('block-dirty-bitmap-add', { node: device, name: 'monday' });
    const changed = randomBytes(64 << 10);
    changed.copy(content, MIB);
    await guest.write(MIB, changed);
    await addScratch(device);
    // Twice with one scratch image: nothing of the first is in the second.
    for (const [bitmap, next] of [
      ['monday', 'tuesday'],
      ['tuesday', 'wednesday'],
    ]) {
      const actions = [
        { type: 'block-dirty-bitmap-add', data: { node: device, name: next } },
        { type: 'block-dirty-bitmap-disable', data: { node: device, name: bitmap } },
        { type: 'blockdev-backup', data: toScratch(device, { 'job-id': 'nightly' }) },
      ];
      await execute('transaction', { actions });
      const name = { node: device, name: bitmap };
      await exportScratch({ bitmaps: [name], 'allocation-depth': true });
      for (let at = 0; at < 8 * MIB; at += MIB) await guest.write(at, randomBytes(MIB));
      const later = Buffer.from(await guest.read(0, 8 * MIB));
      expect((await pulled()).equals(content)).toBe(true);
      later.copy(content);
      const map = JSON.parse(await tool('nbdinfo', ['--json', `--map=qemu:dirty-bitmap:${bitmap}`, uri('scratch')]));
      const dirty = (map as { offset: number; length: number; type: number }[]).filter(({ type }) => type === 1);
      const all = { offset: 0, length: 8 * MIB };
      expect(dirty).toMatchObject([bitmap === 'monday' ? { offset: MIB, length: 64 << 10 } : all]);
      expect(await execute('query-block-jobs')).toMatchObject([{ device: 'nightly', type: 'backup' }]);
      await expect(execute('blockdev-del', { 'node-name': 'scratch' })).rejects.toThrow('in use by block job nightly');
      await execute('block-job-cancel', { device: 'nightly' });
      await expect.poll(() => told('BLOCK_EXPORT_DELETED'), SOON).toMatchObject([{ id: 'pull' }]);
      await over().toMatchObject([0, [{ device: 'nightly', type: 'backup' }]]);
      events.length = 0;
    }
    expect(await execute('query-block-exports')).toEqual([]);
    await execute('blockdev-del', { 'node-name': 'scratch' });
    expect(Buffer.from(await guest.read(0, 8 * MIB)).equals(content)).toBe(true);
  });

  it('whose client reads has its end before anything newer could be read', async () => {
    const { guest, device, content } = await attach();
    await addScratch(device);
    await execute('blockdev-backup', toScratch(device));
    await exportScratch();
    const copying = runTool('nbdcopy', [uri('scratch'), path('copy')]);
    await execute('block-job-cancel', { device });
    await expect(exportScratch({ id: 'late' })).rejects.toThrow(/is ending|has nothing yet/);
    await guest.write(0, randomBytes(MIB));
    if ((await copying).code === 0) expect(readFileSync(path('copy')).equals(content)).toBe(true);
    await over().toMatchObject([0, [{ device }]]);
  });

  it.each(['its scratch image', "the disk's own"])(
    'ends when the helper of %s is killed, and the guest goes on',
    async (whose) => {
      const { guest, device, image, domid } = await attach();
      await addScratch(device);
      await execute('blockdev-backup', toScratch(device));
      await exportScratch();
      for (const pid of processesWith(whose === 'its scratch image' ? 'scratch.img' : image))
        process.kill(pid, 'SIGKILL');
      const written = randomBytes(MIB);
      await guest.write(MIB, written);
      await expect.poll(() => told('BLOCK_EXPORT_DELETED'), SOON).toMatchObject([{ id: 'pull' }]);
      const failed = [{ device, error: expect.stringMatching(/storage helper|target takes no more/) }];
      await expect.poll(() => told('BLOCK_JOB_COMPLETED'), SOON).toMatchObject(failed);
      expect(Buffer.from(await guest.read(MIB, MIB)).equals(written)).toBe(true);
      await expect.poll(() => processesWith('scratch.img'), SOON).toEqual([]);
      await expect
        .poll(() => execute('blockdev-backup', toScratch(device)).then(() => 'begun', String), SOON)
        .toBe('begun');
      // With its job, and an export that somebody has open.
      await exportScratch();
      await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
      await expect.poll(() => processesWith('scratch.img'), SOON).toEqual([]);
      await expect.poll(() => execute('query-block-exports'), SOON).toEqual([]);
      await execute('blockdev-del', { 'node-name': 'scratch' });
    },
  );

  it('takes no image that is something else, and says what is missing', async () => {
    const [{ device, image }, other] = [await attach(), await attach('other')];
    const { domid } = await daemon.attach('raw.img');
    await daemon.host.connectGuest(domid);
    const named = (more: object) => ({
      ...{ driver: 'qcow2', 'node-name': 'x', file: { driver: 'file', filename: path('x.img') }, ...more },
    });
    await expect(execute('blockdev-add', named({ backing: 'none' }))).rejects.toThrow(/none/);
    await expect(execute('blockdev-add', named({ backing: { driver: 'file' } }))).rejects.toThrow('the name of a disk');
    await expect(execute('blockdev-add', named({ driver: 'raw', backing: device }))).rejects.toThrow('driver qcow2');
    const raw = named({ backing: `qdisk-${domid}-51712` });
    await expect(execute('blockdev-add', raw)).rejects.toThrow(/has no backup: its image is raw/);
    await addScratch(device);
    await expect(exportScratch()).rejects.toThrow(`begin blockdev-backup of ${device} to it, with sync none`);
    await expect(execute('blockdev-backup', toScratch(device, { sync: 'full' }))).rejects.toThrow('with sync none');
    await expect(execute('blockdev-backup', toScratch(other.device))).rejects.toThrow(`for a backup of ${device}`);
    await expect(execute('blockdev-mirror', toScratch(device, { sync: 'full' }))).rejects.toThrow('with sync none');
    const disk = { driver: 'xen-disk', id: 'd', drive: 'scratch', vdev: 'xvdb', 'frontend-id': domid };
    await expect(execute('device_add', disk)).rejects.toThrow("no disk's image");
    await execute('blockdev-backup', toScratch(device));
    await expect(exportScratch({ writable: true })).rejects.toThrow('it is a backup');
    await expect(exportScratch({ bitmaps: ['none'] })).rejects.toThrow(/none/);
    await expect(execute('blockdev-backup', toScratch(device, { 'job-id': 'two' }))).rejects.toThrow(/in use|runs/);
    expect(await execute('query-block-exports')).toEqual([]);
    await execute('block-job-cancel', { device });
    await over().toMatchObject([0, [{ device }]]);
    // Images that somebody has are refused as they are.
    for (const file of [image, other.image]) {
      await execute('blockdev-del', { 'node-name': 'scratch' });
      const before = statSync(file).size;
      const node = {
        driver: 'qcow2',
        'node-name': 'scratch',
        file: { driver: 'file', filename: file },
        backing: device,
      };
      await execute('blockdev-add', node);
      await expect(execute('blockdev-backup', toScratch(device))).rejects.toThrow(/own image|lock|in use/i);
      expect(statSync(file).size).toBe(before);
    }
    await execute('blockdev-del', { 'node-name': 'scratch' });
  });
});
