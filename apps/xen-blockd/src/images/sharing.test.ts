import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { symlinkSync } from 'node:fs';
import type { Blkfront } from '@xenpv/blkfront';
import { needs } from '@xenpv/test-support';
import { type DiskConfig, readDiskConfig } from '@xenpv/xen-block';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LimitedLog } from '../log/limited-log.js';
import { TestDaemon } from '../testing/daemon.js';
import type { EmbeddedHost } from '../testing/host.js';
import { imageOpener } from './image-opener.js';

const MIB = 1024 * 1024;

let daemon: TestDaemon;
let host: EmbeddedHost;
const guests: Blkfront[] = [];

beforeEach(async () => {
  daemon = await TestDaemon.create();
  host = daemon.host;
  void daemon.start();
  await daemon.says('ready');
});
afterEach(async () => {
  // While the daemon is there to answer them.
  for (const guest of guests.splice(0)) await guest.close();
  await daemon[Symbol.asyncDispose]();
});

async function connect(domid: number): Promise<Blkfront> {
  const guest = await host.connectGuest(domid);
  guests.push(guest);
  return guest;
}

const backendPath = (domid: number) => `/local/domain/0/backend/qdisk/${domid}/51712`;

/** Another guest with a disk on `target`; resolves with its domid. */
async function second(target: string, disk: { readOnly?: boolean; vm?: string; name?: string } = {}): Promise<number> {
  const { domid } = await host.host.createDomain({ name: disk.name ?? 'second' });
  if (disk.vm !== undefined) await host.store.write(`/local/domain/${domid}/vm`, disk.vm);
  await host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target, ...disk });
  return domid;
}

/** Waits for the disk's error node, which names who has the image. */
async function refused(domid: number, holder: string): Promise<void> {
  const path = `/local/domain/0/error/backend/qdisk/${domid}/51712/error`;
  await expect.poll(() => host.store.tryRead(path)).toContain(holder);
}

async function readMode(mode: string) {
  const keys = { frontend: '/f', 'frontend-id': '1', online: '1', state: '1', dev: 'xvda', params: 'aio:/image', mode };
  for (const [key, value] of Object.entries(keys)) await host.store.write(`/test/${key}`, value);
  return readDiskConfig(host.store, '/test', { type: 'qdisk', domid: 99, devid: 51712 });
}

describe('an image that a guest may write', () => {
  it('is refused to a second guest, by any name, and the error names the other disk', async () => {
    const { domid } = await daemon.attach();
    const guest = await connect(domid);
    symlinkSync(host.path('image'), host.path('link'));
    const holder = `xvda of domain ${domid} (backend/qdisk/${domid}/51712)`;
    for (const name of ['image', 'link']) await refused(await second(host.path(name)), holder);
    await refused(await second(host.path('image'), { readOnly: true }), holder);
    expect((await guest.read(0, 4096)).length).toBe(4096);
  });

  it('is given to another domain of the same machine, as while it migrates', async () => {
    const { domid } = await daemon.attach();
    await connect(domid);
    const vm = await host.store.read(`/local/domain/${domid}/vm`);
    const guest = await connect(await second(host.path('image'), { vm }));
    expect((await guest.read(0, 4096)).length).toBe(4096);
  });

  it('is shared by a disk of mode w!, by its own wish only', async () => {
    const { domid } = await daemon.attach();
    await connect(domid);
    const log = new LimitedLog(pino({ level: 'silent' }));
    const opener = imageOpener(() => ({ log }));
    const open = (config: DiskConfig) => opener(config, { signal: new AbortController().signal });
    const config = async (mode: string) => ({ ...(await readMode(mode)), target: host.path('image') });
    await expect(open(await config('w'))).rejects.toMatchObject({ code: 'ERR_IMAGE_IN_USE' });
    await (await open(await config('w!'))).close();
    // The one that shares has not taken the other's lock away.
    await expect(open(await config('w'))).rejects.toMatchObject({ code: 'ERR_IMAGE_IN_USE' });
  });

  it('is free when the disk is gone', async () => {
    const { domid } = await daemon.attach();
    await connect(domid);
    await host.host.toolstack.detachDisk(domid, 'xvda');
    await second(host.path('image'));
  });

  it('stays locked when its guest connects again, and through a planned restart', async () => {
    const { domid } = await daemon.attach();
    const guest = await connect(domid);
    await guest.close();
    await connect(domid);
    await refused(await second(host.path('image')), `domain ${domid} `);
    daemon.stop();
    await daemon.says('stopping; disks stay connected for the next process');
    await daemon.ended();
    void daemon.start();
    await daemon.says('serving');
    await refused(await second(host.path('image')), `domain ${domid} `);
    expect(await host.store.read(`${backendPath(domid)}/state`)).toBe('4');
  });

  needs('qemu-img', 'qemu-storage-daemon').it.each(['raw', 'qcow2'] as const)(
    'of %s waits until its other domain is gone, when the same machine comes as one on its way in',
    async (format) => {
      const first = format === 'raw' ? await daemon.attach() : await daemon.attachQcow2(host.path('image'), 'first');
      const leaving = 'guest' in first ? first.guest : await connect(first.domid);
      const vm = await host.store.read(`/local/domain/${first.domid}/vm`);
      const target = format === 'raw' ? host.path('image') : `qcow2:${host.path('image')}`;
      const domid = await second(target, { vm, name: 'second--incoming' });
      await expect.poll(() => host.store.read(`${backendPath(domid)}/state`)).toBe('2');
      const data = randomBytes(4096);
      await leaving.write(0, data);
      const connecting = connect(domid);
      await expect
        .poll(() => daemon.lines.map(({ msg }) => String(msg)), { timeout: 10_000 })
        .toContainEqual(expect.stringContaining('its guest has come from another host and waits for the image'));
      expect(await host.store.read(`${backendPath(domid)}/state`)).toBe('2');
      await host.host.toolstack.detachDisk(first.domid, 'xvda', { force: true });
      const coming = await connecting;
      expect(Buffer.compare(await coming.read(0, 4096), data)).toBe(0);
    },
  );

  needs('qemu-img').it('is resized by no tool of QEMU', async () => {
    const { domid } = await daemon.attach();
    await connect(domid);
    const resize = ['resize', '-f', 'raw', '--shrink', host.path('image'), String(MIB)];
    expect(spawnSync('qemu-img', resize, { encoding: 'utf8' })).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('lock'),
    });
  });
});

it('guests that only read share an image', async () => {
  const { domid } = await daemon.attach();
  await host.host.toolstack.detachDisk(domid, 'xvda').catch(() => undefined);
  await second(host.path('image'), { readOnly: true });
  await second(host.path('image'), { readOnly: true });
});
