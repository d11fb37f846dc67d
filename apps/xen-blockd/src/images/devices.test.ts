import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { EmulatedHost } from '@xenpv/emulator';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestDaemon } from '../testing/daemon.js';
import type { EmbeddedHost } from '../testing/host.js';
import { loopDevices } from '../testing/loop-devices.js';

const MIB = 1 << 20;

let daemon: TestDaemon;
let host: EmbeddedHost;
let ended: Promise<number>;
const devices: string[] = [];

const run = (...[program, ...args]: string[]) =>
  execFileSync(program, args, { encoding: 'utf8', stdio: 'pipe' }).trim();

function loopDevice(path: string): string {
  const device = run('losetup', '--find', '--show', path);
  devices.push(device);
  return device;
}

beforeEach(async () => {
  daemon = await TestDaemon.create();
  host = daemon.host;
  ended = daemon.start({ types: ['qdisk', 'vbd'], 'image-directories': ['/dev', host.directory] });
  await daemon.says('ready');
});

afterEach(async () => {
  daemon.stop();
  await ended;
  await daemon[Symbol.asyncDispose]();
  for (const device of devices.splice(0)) run('losetup', '--detach', device);
});

type XlDisk = Parameters<EmulatedHost['toolstack']['attachDisk']>[1];

/** The first bytes of a new guest's disk. */
async function firstBytes(disk: Omit<XlDisk, 'vdev'>): Promise<Uint8Array> {
  const { domid } = await host.host.createDomain({ name: 'guest' });
  await host.host.toolstack.attachDisk(domid, { vdev: 'xvda', ...disk });
  const guest = await host.connectGuest(domid, { signal: AbortSignal.timeout(8000) });
  const bytes = await guest.read(0, 4096);
  await host.host.toolstack.detachDisk(domid, 'xvda');
  return bytes;
}

function rawDevice(): { data: Buffer; device: string } {
  const data = randomBytes(MIB);
  writeFileSync(host.path('raw'), data);
  return { data: data.subarray(0, 4096), device: loopDevice(host.path('raw')) };
}

needs('losetup', loopDevices).describe('a target that is no whole path', () => {
  const ways: [string, Omit<XlDisk, 'vdev' | 'target'>][] = [
    ['phy', { backendType: 'phy' }],
    ['qdisk', { backendType: 'qdisk' }],
  ];

  it.each(ways)('names a device below /dev for %s', async (_name, disk) => {
    const { data, device } = rawDevice();
    expect(Buffer.compare(await firstBytes({ ...disk, target: basename(device) }), data)).toBe(0);
  });

  it.each(ways)('names a volume of a group for %s', async (_name, disk) => {
    const { data, device } = rawDevice();
    const group = `xen-blockd-test-${process.pid}`;
    mkdirSync(`/dev/${group}`);
    try {
      symlinkSync(device, `/dev/${group}/volume`);
      expect(Buffer.compare(await firstBytes({ ...disk, target: `${group}/volume` }), data)).toBe(0);
    } finally {
      rmSync(`/dev/${group}`, { recursive: true });
    }
  });
});

it('a target below /dev does not lead out of it', async () => {
  const { domid } = await host.host.createDomain({ name: 'guest' });
  await host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: '../etc/passwd' });
  const error = `/local/domain/0/error/backend/qdisk/${domid}/51712/error`;
  await expect.poll(() => host.store.tryRead(error)).toContain('../etc/passwd is not below /dev');
});

needs('losetup', loopDevices, 'qemu-img', 'qemu-storage-daemon').describe('block devices', () => {
  it.each([
    ['qcow2', 'qcow2', []],
    ['vhd', 'vpc', ['-o', 'force_size=on']],
    ['qed', 'qed', []],
  ] as const)('hold images of format %s', async (format, driver, options) => {
    const data = randomBytes(MIB);
    writeFileSync(host.path('raw'), data);
    run('qemu-img', 'convert', '-O', driver, ...options, host.path('raw'), host.path('image'));
    truncateSync(host.path('image'), 8 * MIB);
    const target = loopDevice(host.path('image'));
    expect(Buffer.compare(await firstBytes({ target, format }), data.subarray(0, 4096))).toBe(0);
  });

  it.each(['qcow2', 'raw'] as const)('are backing files, of format %s', async (format) => {
    const data = randomBytes(MIB);
    writeFileSync(host.path('raw'), data);
    run('qemu-img', 'convert', '-O', format, host.path('raw'), host.path('base'));
    if (format === 'qcow2') truncateSync(host.path('base'), 8 * MIB);
    const base = loopDevice(host.path('base'));
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', format, host.path('overlay'));
    const got = await firstBytes({ target: host.path('overlay'), format: 'qcow2' });
    expect(Buffer.compare(got, data.subarray(0, 4096))).toBe(0);
    truncateSync(host.path('overlay'), 8 * MIB);
    const both = await firstBytes({ target: loopDevice(host.path('overlay')), format: 'qcow2' });
    expect(Buffer.compare(both, data.subarray(0, 4096))).toBe(0);
  });
});
