import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import type { Blkfront } from '@xenpv/blkfront';
import type { XlDisk } from '@xenpv/emulator';
import { QmpClient, type QmpEvent } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Cleanup } from '../cleanup.js';
import { TestDaemon } from '../testing/daemon.js';
import { loopDevices } from '../testing/loop-devices.js';
import { NbdExport } from '../testing/nbd-export.js';
import { runTool } from '../tools.js';
import { driverOf } from './storage-daemon/arguments.js';

const MIB = 1 << 20;
/** Of whole cylinders too, for vpc, which rounds others up. */
const SIZE = 34 * 4 * 17 * 512;
const SOON = { timeout: 20_000, interval: 20 };

interface Storage {
  readonly needed: Parameters<typeof needs>;
  /** Makes it; what a toolstack's target names. */
  readonly make: () => Promise<string> | string;
  /** Undefined: it grows by command. */
  readonly noGrowth?: RegExp;
  /** Undefined: it has backups, mirrors and dirty bitmaps. */
  readonly noJobs?: RegExp;
  /** Undefined: it has snapshots. */
  readonly noSnapshot?: RegExp;
}

const HELPER: Storage['needed'] = ['qemu-img', 'qemu-storage-daemon', 'Linux'];

let daemon: TestDaemon;
let client: QmpClient;
let events: QmpEvent[];
let ended: Promise<number>;
let cleanup: Cleanup;

const path = (name: string) => daemon.host.path(name);
const execute = (command: string, args: object = {}) => client.execute(command, args);

function rawFile(name = 'image'): string {
  writeFileSync(path(name), '');
  truncateSync(path(name), SIZE);
  return path(name);
}

async function ofFormat(format: string): Promise<string> {
  const image = path(`image.${format}`);
  const args = ['create', '-f', driverOf(format), image, String(SIZE)];
  expect(await runTool('qemu-img', args)).toMatchObject({ code: 0 });
  return `${format}:${image}`;
}

function blockDevice(): string {
  const device = execFileSync('losetup', ['--find', '--show', rawFile()], { encoding: 'utf8' }).trim();
  cleanup.defer(() => void execFileSync('losetup', ['--detach', device]));
  return device;
}

async function nbdServer(): Promise<string> {
  cleanup.use(await NbdExport.start({ place: path('server'), image: rawFile(), name: 'disk' }));
  return `nbd+unix:///disk?socket=${path('server')}`;
}

const STORAGES: [name: string, storage: Storage][] = [
  ['raw file', { needed: ['Linux'], make: rawFile, noJobs: /its image is raw/, noSnapshot: /format raw have no/ }],
  [
    'block device',
    {
      needed: ['losetup', loopDevices, 'Linux'],
      make: blockDevice,
      noGrowth: /is a block device: resize it where it is made, as with lvextend/,
      noJobs: /its image is raw/,
      noSnapshot: /format raw have no/,
    },
  ],
  ['qcow2 image', { needed: HELPER, make: () => ofFormat('qcow2') }],
  [
    'vhd image',
    {
      needed: HELPER,
      make: () => ofFormat('vhd'),
      noGrowth: /vhd: .*resize/,
      noSnapshot: /format vhd have no snapshots here; qcow2 has/,
    },
  ],
  [
    'vmdk image',
    {
      needed: HELPER,
      make: () => ofFormat('vmdk'),
      noGrowth: /vmdk: .*resize/,
      noSnapshot: /format vmdk have no snapshots here; qcow2 has/,
    },
  ],
  [
    'disk of an NBD server',
    {
      needed: ['qemu-storage-daemon', 'Linux'],
      make: nbdServer,
      noGrowth: /cannot be resized here.*resize it where it is kept, then x-refresh/,
      noJobs: /its image is raw/,
      noSnapshot: /have no snapshots here/,
    },
  ],
];

async function start(): Promise<void> {
  ended = daemon.start({ types: ['qdisk', 'vbd3', 'vbd'] });
  await daemon.says('ready');
  events = [];
  client = await QmpClient.connect(path('control'), { onEvent: (event) => events.push(event) });
}

async function attach(target: string, disk: Partial<XlDisk> = {}) {
  const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
  await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target, ...disk });
  const guest = await daemon.host.connectGuest(domid);
  return { domid, guest, device: `qdisk-${domid}-51712` };
}

beforeEach(async () => {
  cleanup = new Cleanup();
  daemon = cleanup.use(await TestDaemon.create());
  await start();
});
afterEach(async () => {
  client.close();
  daemon.stop();
  await ended;
  await cleanup[Symbol.asyncDispose]();
});

function jobsTitle(noJobs: RegExp | undefined, noSnapshot: RegExp | undefined): string {
  if (noJobs) return 'says that it has no snapshots, jobs and bitmaps';
  const has = noSnapshot ? 'says that it has no snapshots' : 'has snapshots';
  return `${has}, and is backed up, by bitmap too, and mirrored`;
}

for (const [name, { needed, make, noGrowth, noJobs, noSnapshot }] of STORAGES) {
  needs(...needed).describe(`a ${name}`, () => {
    it('is attached in each way, and keeps what its guest wrote', async () => {
      const target = await make();
      let data = Buffer.alloc(64 << 10);
      const writeOn = async ({ domid, guest }: { domid: number; guest: Blkfront }) => {
        expect(Buffer.from(await guest.read(MIB / 2, data.length)).equals(data)).toBe(true);
        data = randomBytes(data.length);
        await guest.write(MIB / 2, data);
        await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
      };
      for (const backendType of ['qdisk', 'tap', 'phy'] as const) await writeOn(await attach(target, { backendType }));
      const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
      const [, format = 'raw', image = target] = /^(qcow2|vhd|vmdk):(.*)$/.exec(target) ?? [];
      const attached = execute('x-attach', { domain: String(domid), image, format });
      await expect
        .poll(() => daemon.host.store.tryRead(`/local/domain/${domid}/device/vbd/51712/backend`), SOON)
        .toBeDefined();
      const guest = await daemon.host.connectGuest(domid);
      await attached;
      await writeOn({ domid, guest });
    });

    it('does what its limits allow, and nothing while it is paused', async () => {
      const { guest, device } = await attach(await make());
      const limits = { device, bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 };
      const msOf30 = async () => {
        const began = performance.now();
        await Promise.all(Array.from({ length: 30 }, () => guest.read(0, 512)));
        return performance.now() - began;
      };
      await execute('block_set_io_throttle', { ...limits, iops: 50, iops_max: 5 });
      expect(await msOf30()).toBeGreaterThan(450);
      await execute('block_set_io_throttle', limits);
      expect(await execute('x-query-disks')).toMatchObject([{ limits: 'none' }]);
      const data = randomBytes(64 << 10);
      await guest.write(0, data);
      await execute('x-pause', { disk: device });
      let isRead = false;
      const reading = guest.read(0, data.length).finally(() => {
        isRead = true;
      });
      // Each answer takes as long as a read would.
      for (let i = 0; i < 50; i++)
        expect(await execute('x-query-disks')).toMatchObject([{ statistics: { inFlight: 0 } }]);
      expect(isRead).toBe(false);
      await execute('x-unpause', { disk: device });
      expect(Buffer.from(await reading).equals(data)).toBe(true);
    });

    it('is taken out of a drive, and put in again', async () => {
      const target = await make();
      const { guest, device, domid } = await attach(target, { deviceType: 'cdrom' });
      const size = guest.size;
      expect(size).toBeGreaterThanOrEqual(SIZE);
      await execute('eject', { device });
      await expect.poll(() => guest.size, SOON).toBe(0);
      writeFileSync(path('other.iso'), Buffer.alloc(MIB, 7));
      await execute('blockdev-change-medium', { id: device, filename: path('other.iso') });
      await expect.poll(() => guest.size, SOON).toBe(MIB);
      expect((await guest.read(0, 512)).every((byte) => byte === 7)).toBe(true);
      await daemon.host.host.toolstack.changeMedium(domid, 'xvda', target);
      await expect.poll(() => guest.size, SOON).toBe(size);
      expect((await guest.read(0, 512)).every((byte) => byte === 0)).toBe(true);
    });

    it('is served on by the next process, with all that was written', async () => {
      const { guest } = await attach(await make());
      const data = randomBytes(64 << 10);
      await guest.write(0, data);
      client.close();
      daemon.stop();
      expect(await ended).toBe(0);
      const writing = guest.write(MIB / 2, data);
      await start();
      await writing;
      expect(Buffer.from(await guest.read(0, data.length)).equals(data)).toBe(true);
      expect(Buffer.from(await guest.read(MIB / 2, data.length)).equals(data)).toBe(true);
    });

    it(noGrowth ? 'says that it does not grow by command, and goes on' : 'grows by command', async () => {
      const { guest, device } = await attach(await make());
      const size = guest.size;
      const grown = execute('block_resize', { device, size: 2 * SIZE });
      if (noGrowth) await expect(grown).rejects.toThrow(noGrowth);
      else await grown;
      await expect.poll(() => guest.size, SOON).toBe(noGrowth ? size : 2 * SIZE);
      const data = randomBytes(4096);
      await guest.write(guest.size - 4096, data);
      expect(Buffer.from(await guest.read(guest.size - 4096, 4096)).equals(data)).toBe(true);
    });

    it(jobsTitle(noJobs, noSnapshot), async () => {
      const { guest, device, domid } = await attach(await make());
      const content = Buffer.alloc(guest.size);
      const write = async (at: number) => {
        const data = randomBytes(64 << 10);
        data.copy(content, at);
        await guest.write(at, data);
      };
      await write(0);
      const snapshot = execute('x-snapshot', { disk: device, filename: path('before') });
      if (noSnapshot) await expect(snapshot).rejects.toThrow(noSnapshot);
      else await snapshot;
      const bitmap = { node: device, name: 'daily' };
      const backup = { device, target: path('full'), format: 'raw', sync: 'full' };
      const mirror = { device, target: path('copy'), format: 'raw', sync: 'full' };
      if (noJobs) {
        await expect(execute('drive-backup', backup)).rejects.toThrow(noJobs);
        await expect(execute('drive-mirror', mirror)).rejects.toThrow(noJobs);
        await expect(execute('block-dirty-bitmap-add', bitmap)).rejects.toThrow('has no dirty bitmaps');
        await write(MIB / 2);
        return;
      }
      const told = (event: string, times = 1) =>
        expect.poll(() => events.filter((each) => each.event === event), SOON).toHaveLength(times);
      const contentOf = async (image: string) => {
        const args = ['convert', '-U', '-O', 'raw', image, path('read')];
        expect(await runTool('qemu-img', args)).toMatchObject({ code: 0, stderr: '' });
        return readFileSync(path('read')).subarray(0, SIZE);
      };
      await execute('block-dirty-bitmap-add', bitmap);
      await execute('drive-backup', backup);
      await told('BLOCK_JOB_COMPLETED');
      expect(readFileSync(path('full')).subarray(0, SIZE).equals(content.subarray(0, SIZE))).toBe(true);
      await write(MIB / 2);
      const since = { device, target: path('since'), format: 'qcow2', sync: 'incremental', bitmap: 'daily' };
      await execute('drive-backup', since);
      await told('BLOCK_JOB_COMPLETED', 2);
      expect(await runTool('qemu-img', ['rebase', '-u', '-F', 'raw', '-b', path('full'), path('since')])).toMatchObject(
        { code: 0 },
      );
      expect((await contentOf(path('since'))).equals(content.subarray(0, SIZE))).toBe(true);
      await execute('drive-mirror', mirror);
      await told('BLOCK_JOB_READY');
      await execute('block-job-complete', { device });
      await told('BLOCK_JOB_COMPLETED', 3);
      await write(MIB / 4);
      expect(Buffer.from(await guest.read(0, content.length)).equals(content)).toBe(true);
      await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
      expect(readFileSync(path('copy')).subarray(0, SIZE).equals(content.subarray(0, SIZE))).toBe(true);
    });
  });
}
