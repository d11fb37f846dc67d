import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, renameSync, statSync, writeFileSync } from 'node:fs';
import type { Blkfront } from '@xenpv/blkfront';
import { QmpServer, qmpCommand } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { qmpVersion } from '../../control/qemu-version.js';
import { unopenedStatus } from '../../status/disks/device-status.js';
import { TestDaemon } from '../../testing/daemon.js';
import { runBlockd } from '../../testing/process.js';

const MIB = 1 << 20;

let daemon: TestDaemon;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  daemon.start();
  await daemon.says('ready');
});
afterEach(() => daemon[Symbol.asyncDispose]());

const blockd = (...args: string[]) => runBlockd(...args, '--socket', daemon.host.path('control'));

describe('a drive', () => {
  let guest: Blkfront;

  beforeEach(async () => {
    const { host } = daemon;
    writeFileSync(host.path('first.iso'), Buffer.alloc(MIB, 1));
    writeFileSync(host.path('second.iso'), Buffer.alloc(2 * MIB, 2));
    const { domid } = await host.host.createDomain({ name: 'web1' });
    const disk = { vdev: 'xvda', target: host.path('first.iso'), deviceType: 'cdrom' } as const;
    await host.host.toolstack.attachDisk(domid, disk);
    guest = await host.connectGuest(domid);
  });

  it('is emptied by eject, twice, and filled by insert, which wait for it', async () => {
    const ejected = await blockd('eject', 'web1:xvda');
    expect([ejected.code, ejected.stderr]).toEqual([0, '']);
    await expect.poll(() => guest.size).toBe(0);
    expect((await blockd('eject', 'web1:xvda')).code).toBe(0);
    const inserted = await blockd('insert', 'web1:xvda', daemon.host.path('second.iso'), '--json');
    expect(inserted.code).toBe(0);
    expect(JSON.parse(inserted.stdout)).toMatchObject([{ image: daemon.host.path('second.iso'), size: 2 * MIB }]);
    await expect.poll(() => guest.size).toBe(2 * MIB);
  });

  it('says why a medium cannot be loaded, and takes the next one', async () => {
    const missing = daemon.host.path('missing.iso');
    const refused = await blockd('insert', 'web1:xvda', missing);
    expect([refused.code, refused.stdout]).toEqual([1, '']);
    expect(refused.stderr).toMatch(/is empty: .*missing\.iso.*; it is tried again\n$/);
    expect((await blockd('show', 'web1:xvda')).stdout).toMatch(/^ {2}why +no medium: .*missing\.iso/m);
    const inserted = await blockd('insert', 'web1:xvda', daemon.host.path('second.iso'));
    expect([inserted.code, inserted.stderr]).toEqual([0, '']);
  });

  it('has the file that is there now, where it has the name of the one before', async () => {
    const path = daemon.host.path('first.iso');
    renameSync(daemon.host.path('second.iso'), path);
    const inserted = await blockd('insert', 'web1:xvda', path, '--json');
    expect([inserted.code, inserted.stderr]).toEqual([0, '']);
    expect(JSON.parse(inserted.stdout)).toMatchObject([{ image: path, size: 2 * MIB }]);
    await expect.poll(() => guest.size).toBe(2 * MIB);
    expect(Buffer.from(await guest.read(0, 512))).toEqual(Buffer.alloc(512, 2));
    const twice = await Promise.all([blockd('insert', 'web1:xvda', path), blockd('insert', 'web1:xvda', path)]);
    expect(twice.map(({ code, stderr }) => [code, stderr])).toEqual([
      [0, ''],
      [0, ''],
    ]);
  });

  it('says that a file without a byte leaves the drive empty', async () => {
    const empty = daemon.host.path('empty.iso');
    writeFileSync(empty, '');
    const { code, stdout, stderr } = await blockd('insert', 'web1:xvda', empty, '--timeout', '1');
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain(`is empty: ${empty} has no bytes, or is still being opened`);
    expect(stderr).not.toContain('hang');
  });

  needs('qemu-img', 'qemu-storage-daemon').it('has a file in another format only when it is read so', async () => {
    const image = daemon.host.path('install');
    execFileSync('qemu-img', ['create', '-q', '-f', 'vpc', image, '8M']);
    for (const [args, format] of [
      [[], 'raw'],
      [['--format', 'vhd'], 'vhd'],
      [['--format', 'raw'], 'raw'],
      [['--format', 'vpc'], 'vhd'],
    ] as const) {
      const { stdout, stderr } = await blockd('insert', 'web1:xvda', image, ...args, '--json');
      expect(stderr).toBe('');
      expect(JSON.parse(stdout)).toMatchObject([{ image, format }]);
    }
  });

  it.each([
    [['a.iso'], 'expected a whole path'],
    [['/a.iso', '--format', 'tape'], "does not accept value 'tape'"],
  ])('insert %j is refused in the words of the daemon', async (args, message) => {
    const { code, stdout, stderr } = await blockd('insert', 'web1:xvda', ...args);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain(message);
    expect(guest.size).toBe(MIB);
  });

  it('that is empty cannot become larger', async () => {
    await blockd('eject', 'web1:xvda');
    const more = await blockd('resize', 'web1:xvda', '+1M');
    expect([more.code, more.stderr]).toEqual([2, expect.stringContaining('has no medium, which could become larger')]);
    const all = await blockd('resize', 'web1:xvda', '1M');
    expect([all.code, all.stderr]).toEqual([1, expect.stringContaining('there is no medium to resize')]);
  });
});

it('insert of the same file in another format waits until the drive reads it so', async () => {
  // The drive is still draining at the first looks: it has the file as it was.
  let looks = 0;
  const status = unopenedStatus({ type: 'qdisk', domid: 5, devid: 51712 }, {});
  const drive = { ...status, backendPath: '/backend', target: '/a', image: '/a' };
  const commands = {
    'x-query-disks': qmpCommand({
      members: { 'disk?': 'str' },
      returns: 'any',
      run: () => [JSON.parse(JSON.stringify({ ...drive, format: ++looks > 3 ? 'vhd' : 'raw' }))],
    }),
    'blockdev-change-medium': qmpCommand({ members: { device: 'str', filename: 'str', format: 'str' }, run: () => {} }),
  };
  await using slow = new QmpServer({ commands, version: qmpVersion() });
  await once(slow.listener.listen(daemon.host.path('slow')), 'listening');
  const socket = ['--socket', daemon.host.path('slow')];
  const { code, stdout } = await runBlockd('insert', 'web1:xvda', '/a', '--format', 'vpc', '--json', ...socket);
  expect([code, JSON.parse(stdout)]).toEqual([0, [expect.objectContaining({ format: 'vhd' })]]);
});

describe('a disk', () => {
  let guest: Blkfront;
  const image = () => daemon.host.path('web1');

  beforeEach(async () => {
    const { domid } = await daemon.attach('web1');
    guest = await daemon.host.connectGuest(domid);
  });

  it('has no medium', async () => {
    for (const args of [['eject'], ['insert']]) {
      const words = args[0] === 'insert' ? ['/a.iso'] : [];
      const { code, stderr } = await blockd(...args, 'web1:xvda', ...words);
      expect([code, stderr]).toEqual([1, expect.stringContaining('is no cdrom drive')]);
    }
  });

  it('becomes larger by what is said, and smaller only with --shrink', async () => {
    const larger = await blockd('resize', 'web1:xvda', '+1M', '--json');
    expect([larger.code, larger.stderr]).toEqual([0, '']);
    expect(JSON.parse(larger.stdout)).toMatchObject([{ size: 3 * MIB }]);
    await expect.poll(() => guest.size).toBe(3 * MIB);
    const refused = await blockd('resize', image(), '1024K');
    expect([refused.code, refused.stdout]).toEqual([2, '']);
    expect(refused.stderr).toContain('would shrink from 3.0 MiB (3145728 bytes) to 1.0 MiB (1048576 bytes)');
    expect(refused.stderr).toContain('--shrink');
    expect(statSync(image()).size).toBe(3 * MIB);
    expect((await blockd('resize', image(), '1MiB', '--shrink')).code).toBe(0);
    expect(statSync(image()).size).toBe(MIB);
    await expect.poll(() => guest.size).toBe(MIB);
  });

  it('of no size is wrong usage', async () => {
    const { code, stdout, stderr } = await blockd('resize', 'web1:xvda', 'ten');
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain('size ten: expected as 10G, 20480M');
    expect(statSync(image()).size).toBe(2 * MIB);
  });

  it('of a size that has half a sector is refused in the words of the daemon', async () => {
    const { code, stderr } = await blockd('resize', 'web1:xvda', '+1000');
    expect([code, stderr]).toEqual([1, expect.stringContaining('expected a multiple of 512 bytes')]);
    expect(existsSync(image())).toBe(true);
  });
});
