import { randomBytes } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { QmpClient } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterAll, afterEach, beforeAll, beforeEach, expect, vi } from 'vitest';
import type { Config } from '../../daemon/config.js';
import { CephCluster } from '../../testing/ceph-cluster.js';
import { TestDaemon } from '../../testing/daemon.js';
import { commanded } from '../../testing/network-storage.js';
import { processesWith } from '../../testing/storage-helpers.js';
import { findTool } from '../../tools.js';

const MIB = 1 << 20;
const SOON = { timeout: 60_000, interval: 50 };
const ceph = needs(commanded, 'qemu-storage-daemon', 'block-rbd.so', 'ceph', 'ceph-mon', 'ceph-osd', 'Linux');

let cluster: CephCluster;
let daemon: TestDaemon;
let images = 0;

/** A disk for a guest that is not connected yet; of a new image, if no target is named. */
async function attach(config: Partial<Config> = {}, target?: string) {
  const name = `rbd/disk${images++}`;
  if (target === undefined) await cluster.createImage(name, 8);
  void daemon.start({ threads: 0, 'ceph-conf': cluster.conf, 'ceph-user': 'guests', ...config });
  await daemon.says('ready');
  const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
  await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: target ?? `rbd:${name}` });
  const error = () => daemon.host.store.tryRead(`/local/domain/0/error/backend/qdisk/${domid}/51712/error`);
  return { domid, name, error };
}

async function ask(command: string, args: object = {}): Promise<unknown> {
  const client = await QmpClient.connect(daemon.host.path('control'));
  return client.execute(command, args).finally(() => client.close());
}

ceph.describe('an image of a Ceph cluster', { timeout: 120_000 }, () => {
  beforeAll(async () => {
    cluster = await CephCluster.create();
    await cluster.createUser('guests', 'mon', 'profile rbd', 'osd', 'profile rbd pool=rbd');
    await cluster.createImage('rbd/there', 8);
  }, 180_000);
  afterAll(() => cluster?.[Symbol.asyncDispose]());

  beforeEach(async () => {
    daemon = await TestDaemon.create();
  });
  afterEach(() => daemon[Symbol.asyncDispose](), 60_000);

  ceph.it.each([0, 1])('has what its guest wrote, with %s threads', async (threads) => {
    const { domid, name } = await attach({ threads });
    const guest = await daemon.host.connectGuest(domid);
    const data = randomBytes(4 * MIB);
    await guest.write(MIB, data);
    await guest.flush();
    expect(Buffer.from(await guest.read(MIB, 4 * MIB)).equals(data)).toBe(true);
    expect(daemon.lines.filter(({ msg }) => msg === 'qemu-storage-daemon is not caged')).toEqual([]);
    await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
    await cluster.ask('rbd', 'export', '--no-progress', name, cluster.path(`copy${threads}`));
    expect(
      readFileSync(cluster.path(`copy${threads}`))
        .subarray(MIB, 5 * MIB)
        .equals(data),
    ).toBe(true);
  });

  ceph.it('in a namespace, and a snapshot of it, which is only read', async () => {
    await cluster.ask('rbd', 'namespace', 'create', 'rbd/ours');
    await cluster.createImage('rbd/ours/disk', 8);
    await cluster.ask('rbd', 'snap', 'create', 'rbd/ours/disk@monday');
    const { domid } = await attach({}, 'rbd:rbd/ours/disk');
    const guest = await daemon.host.connectGuest(domid);
    await guest.write(0, randomBytes(4096));
    await guest.flush();
    const target = 'rbd:rbd/ours/disk@monday';
    const { domid: other } = await daemon.host.host.createDomain({ name: 'other' });
    await daemon.host.host.toolstack.attachDisk(other, { vdev: 'xvda', target, readOnly: true });
    const reader = await daemon.host.connectGuest(other);
    expect(Buffer.from(await reader.read(0, 4096)).equals(Buffer.alloc(4096))).toBe(true);
    const { domid: third } = await daemon.host.host.createDomain({ name: 'third' });
    await daemon.host.host.toolstack.attachDisk(third, { vdev: 'xvda', target });
    const error = () => daemon.host.store.tryRead(`/local/domain/0/error/backend/qdisk/${third}/51712/error`);
    await expect.poll(error, SOON).toContain('snapshot monday is only read: give it mode r');
  });

  ceph.it.each<[string, string, Partial<Config>, RegExp]>([
    ['no such image', 'rbd:rbd/none', {}, /rbd:rbd\/none: .*No such file or directory.*rbd ls POOL/],
    ['no such pool', 'rbd:none/there', {}, /rbd:none\/there: .*error opening pool none.*ceph osd pool ls/],
    ['no such user', 'rbd:rbd/there:id=bob', {}, /there is no keyring of client\.bob \(.*client\.bob\); ceph auth get/],
    [
      'no configuration',
      'rbd:rbd/there',
      { 'ceph-conf': '/none/ceph.conf' },
      /\/none\/ceph\.conf, the configuration of the cluster, is not there; name another ceph-conf/,
    ],
    [
      'a pool that is not allowed',
      'rbd:rbd/there',
      { 'rbd-pools': ['vms'] },
      /the pool rbd is none of rbd-pools \(vms\)/,
    ],
  ])('%s is told of', async (_, target, config, text) => {
    const { error } = await attach(config, target);
    await expect.poll(error, SOON).toMatch(text);
  });

  ceph.it('a key that is not the user’s, or of another one, is told of', async () => {
    copyFileSync(cluster.path('client.guests'), cluster.path('client.eve'));
    const { error } = await attach({}, 'rbd:rbd/there:id=eve');
    await expect.poll(error, SOON).toMatch(/client\.eve has no key of client\.eve; ceph auth get client\.eve -o/);
    const text = readFileSync(cluster.path('client.guests'), 'utf8').replace('client.guests', 'client.eve');
    writeFileSync(cluster.path('client.eve'), text);
    const { domid } = await daemon.host.host.createDomain({ name: 'second' });
    await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: 'rbd:rbd/there:id=eve' });
    const second = () => daemon.host.store.tryRead(`/local/domain/0/error/backend/qdisk/${domid}/51712/error`);
    await expect.poll(second, SOON).toMatch(/error connecting.*compare the keyring with `ceph auth get`/);
  });

  ceph.it('a keyring that cannot be read is told of', async () => {
    mkdirSync(cluster.path('client.dir'));
    const { error } = await attach({}, 'rbd:rbd/there:id=dir');
    await expect.poll(error, SOON).toMatch(/client\.dir, the keyring of client\.dir, cannot be read \(EISDIR\)/);
  });

  ceph.it('a helper without the driver names the package that has it', async () => {
    // QEMU looks for its modules beside the folder that its program is in.
    mkdirSync(daemon.host.path('bin'));
    copyFileSync(findTool('qemu-storage-daemon') ?? '', daemon.host.path('bin/qemu-storage-daemon'));
    vi.stubEnv('PATH', `${daemon.host.path('bin')}:${process.env.PATH}`);
    try {
      const { error } = await attach({}, 'rbd:rbd/there');
      await expect.poll(error, SOON).toMatch(/no driver rbd: Debian: apt-get install qemu-block-extra/);
    } finally {
      vi.unstubAllEnvs();
    }
  });

  ceph.it('an image that grew is seen by refresh, and its guest goes on', async () => {
    const { domid, name } = await attach();
    const guest = await daemon.host.connectGuest(domid);
    await guest.write(0, randomBytes(MIB));
    await cluster.ask('rbd', 'resize', '--no-progress', name, '--size', '16M');
    await ask('x-refresh', { disk: `qdisk-${domid}-51712` });
    await expect.poll(() => ask('query-block').then((text) => JSON.stringify(text)), SOON).toContain(String(16 * MIB));
    const data = randomBytes(4096);
    await guest.write(0, data);
    expect(Buffer.from(await guest.read(0, 4096)).equals(data)).toBe(true);
  });

  ceph.it('its guest waits for a dead OSD, and goes on', async () => {
    const { domid } = await attach();
    const guest = await daemon.host.connectGuest(domid);
    await guest.write(0, randomBytes(MIB));
    await guest.flush();
    await cluster.kill('osd');
    const data = randomBytes(MIB);
    const written = guest.write(MIB, data).then(() => guest.flush());
    const early = await Promise.race([
      written.then(() => 'written'),
      new Promise((resolve) => setTimeout(resolve, 3000)),
    ]);
    expect(early).toBeUndefined();
    cluster.start('osd');
    await written;
    expect(Buffer.from(await guest.read(MIB, MIB)).equals(data)).toBe(true);
  });

  ceph.it('requests fail after reconnect-seconds, and the next ones do not', async () => {
    const { domid } = await attach({ 'reconnect-seconds': 3 });
    const guest = await daemon.host.connectGuest(domid);
    await guest.write(0, randomBytes(MIB));
    await guest.flush();
    await cluster.kill('osd');
    await expect(guest.write(0, randomBytes(4096)).then(() => guest.flush())).rejects.toThrow();
    cluster.start('osd');
    await cluster.up();
    const again = () =>
      guest
        .write(0, randomBytes(4096))
        .then(() => guest.flush())
        .then(
          () => true,
          () => false,
        );
    await expect.poll(again, SOON).toBe(true);
  });

  ceph.it('without a quorum a disk is refused in time, and one that is there goes away', async () => {
    const { domid } = await attach();
    const guest = await daemon.host.connectGuest(domid);
    await guest.write(0, randomBytes(4096));
    await guest.flush();
    await cluster.kill('osd');
    await cluster.kill('mon');
    const { domid: late } = await daemon.host.host.createDomain({ name: 'late' });
    await daemon.host.host.toolstack.attachDisk(late, { vdev: 'xvda', target: 'rbd:rbd/there' });
    const error = () => daemon.host.store.tryRead(`/local/domain/0/error/backend/qdisk/${late}/51712/error`);
    await expect.poll(error, SOON).toMatch(/no monitor of the cluster answered|ceph -c .* health/);
    // xl waits ten seconds, the toolstack here three.
    const began = performance.now();
    await daemon.host.host.toolstack.detachDisk(domid, 'xvda').catch(() => {});
    const state = () => daemon.host.store.tryRead(`/local/domain/0/backend/qdisk/${domid}/51712/state`);
    await expect.poll(state, SOON).toSatisfy((text) => text === undefined || text === '6');
    expect(performance.now() - began).toBeLessThan(10_000);
    await expect.poll(() => processesWith('"rbd:rbd/'), SOON).toEqual([]);
    cluster.start('mon');
    cluster.start('osd');
    await cluster.up();
  });
});
