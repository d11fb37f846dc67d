import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { needs } from '@xenpv/test-support';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import type { Config } from '../../daemon/config.js';
import { CephCluster } from '../../testing/ceph-cluster.js';
import { TestDaemon } from '../../testing/daemon.js';

const MIB = 1 << 20;
const SOON = { timeout: 60_000, interval: 50 };
const ceph = needs('qemu-storage-daemon', 'block-rbd.so', 'ceph', 'ceph-mon', 'ceph-osd', 'Linux');

let cluster: CephCluster;
let daemon: TestDaemon;
let images = 0;

ceph.describe('an image of a Ceph cluster', () => {
  beforeAll(async () => {
    cluster = await CephCluster.create();
    await cluster.createUser('guests', 'mon', 'profile rbd', 'osd', 'profile rbd pool=rbd');
  }, 120_000);
  afterAll(() => cluster?.[Symbol.asyncDispose]());

  beforeEach(async () => {
    daemon = await TestDaemon.create();
  });
  afterEach(() => daemon[Symbol.asyncDispose]());

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

  ceph.it.each([0, 1])('has what its guest wrote, with %s threads', async (threads) => {
    const { domid, name, error } = await attach({ threads });
    const guest = await daemon.host.connectGuest(domid).catch(async (cause) => {
      throw new Error(`${await error()}`, { cause });
    });
    const data = randomBytes(4 * MIB);
    await guest.write(MIB / 512, data);
    await guest.flush();
    expect(data.equals(await guest.read(MIB / 512, 4 * MIB))).toBe(true);
    await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
    await cluster.ask('rbd', 'export', '--no-progress', name, cluster.path('copy'));
    const { readFileSync } = await import('node:fs');
    expect(
      readFileSync(cluster.path('copy'))
        .subarray(MIB, 5 * MIB)
        .equals(data),
    ).toBe(true);
    rmSync(cluster.path('copy'));
  });
});
