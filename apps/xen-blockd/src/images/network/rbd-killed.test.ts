import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { Cleanup } from '../../cleanup.js';
import { CephCluster } from '../../testing/ceph-cluster.js';
import { FolderHost } from '../../testing/folder-host.js';
import { attachTo, GuestLoad } from '../../testing/guest-load.js';
import { commanded } from '../../testing/network-storage.js';
import type { BlockdProcess } from '../../testing/process.js';
import { processesWith } from '../../testing/storage-helpers.js';

const addon = working('the addon of xen-sys', requireNativeAddon);
/** Kills of each kind; more for a longer run. */
const KILLS = Number(process.env.CEPH_KILLS ?? 1);
const PACE = { operations: 20, timeoutMs: 90_000 };
const TIMEOUT_MS = 120_000 + KILLS * 60_000;
const ceph = needs(commanded, addon, 'qemu-storage-daemon', 'block-rbd.so', 'ceph', 'ceph-mon', 'ceph-osd', 'Linux');

let cluster: CephCluster;
let host: FolderHost;
let daemon: BlockdProcess;
let cleanup: Cleanup;
let images = 0;

const start = () => host.daemon('--threads', '2');

function helperOf(target: string): number {
  const found = processesWith(`"${target}"`);
  expect(found).toHaveLength(1);
  return found[0] ?? 0;
}

async function adopted(): Promise<void> {
  await expect.poll(() => daemon.stderr, { timeout: 30_000 }).toContain('"adopted":true');
}

ceph.describe('a guest loses nothing in a Ceph cluster', () => {
  beforeAll(async () => {
    cluster = await CephCluster.create();
    await cluster.createUser('guests', 'mon', 'profile rbd', 'osd', 'profile rbd pool=rbd');
  }, 180_000);
  afterAll(() => cluster?.[Symbol.asyncDispose]());
  beforeEach(async () => {
    cleanup = new Cleanup();
    host = cleanup.use(await FolderHost.start());
    daemon = await start();
  }, 60_000);
  afterEach(() => cleanup[Symbol.asyncDispose](), 60_000);

  it.each<[string, (target: string) => Promise<void>]>([
    ['its OSD', () => cluster.kill('osd').then(() => cluster.start('osd'))],
    ['its monitor', () => cluster.kill('mon').then(() => cluster.start('mon'))],
    [
      'both, one after the other',
      async () => {
        await cluster.kill('mon');
        await cluster.kill('osd');
        cluster.start('mon');
        cluster.start('osd');
        await cluster.up();
      },
    ],
    ['the storage helper', async (target) => void process.kill(helperOf(target), 'SIGKILL')],
    [
      'the daemon, whose helper goes on',
      async (target) => {
        const helper = helperOf(target);
        await host.kill(daemon);
        daemon = await start();
        await adopted();
        expect(helperOf(target)).toBe(helper);
      },
    ],
    [
      'the daemon, while the OSD is away',
      async () => {
        await cluster.kill('osd');
        await host.kill(daemon);
        daemon = await start();
        cluster.start('osd');
      },
    ],
  ])('when somebody kills %s', { timeout: TIMEOUT_MS }, async (_, kill) => {
    const name = `rbd/disk${images++}`;
    await cluster.createImage(name, 32);
    const target = `rbd:${name}:id=guests:conf=${cluster.conf}`;
    const load = new GuestLoad(await attachTo(host.directory, cleanup, { target }), PACE);
    await load.goesOn();
    for (let kills = 0; kills < KILLS; kills++) {
      await kill(target);
      await load.goesOn();
    }
    await load.end();
  });

  it('when the daemon is restarted as planned', { timeout: TIMEOUT_MS }, async () => {
    const name = `rbd/disk${images++}`;
    await cluster.createImage(name, 32);
    const target = `rbd:${name}:id=guests:conf=${cluster.conf}`;
    const load = new GuestLoad(await attachTo(host.directory, cleanup, { target }), PACE);
    await load.goesOn();
    await host.kill(daemon, 'SIGTERM');
    daemon = await start();
    await load.goesOn();
    await load.end();
  });
});
