import { once } from 'node:events';
import { renameSync } from 'node:fs';
import { connect } from 'node:net';
import { QmpClient } from '@xenpv/qmp';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { packageVersion } from '../package-root.js';
import * as catalogue from '../status/metrics/catalogue.js';
import { TestDaemon } from '../testing/daemon.js';
import type { EmbeddedHost } from '../testing/host.js';
import { Scrape } from '../testing/scrape.js';
import { processesWith } from '../testing/storage-helpers.js';
import { runTool } from '../tools.js';

vi.setConfig({ testTimeout: 60_000 });

const SOON = { timeout: 20_000 };
const DISK = { device: 'qdisk-1-51712', domid: '1', vdev: 'xvda' };
const CLASSES = ['read', 'write', 'flush', 'discard'];

let daemon: TestDaemon;
let host: EmbeddedHost;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  host = daemon.host;
});
afterEach(() => daemon[Symbol.asyncDispose]());

const scrape = () => Scrape.from(host.path('metrics'));

async function start(config: Parameters<TestDaemon['start']>[0] = {}): Promise<void> {
  void daemon.start({ metrics: host.path('metrics'), ...config });
  await daemon.says('ready');
}

/** Everything in the catalogue, by name. */
const families = Object.assign({}, ...Object.values(catalogue).filter((value) => !Array.isArray(value))) as Record<
  string,
  { readonly type: string }
>;

async function connectedDisk(name = 'web1') {
  const { domid } = await daemon.attach(name);
  return { domid, guest: await host.connectGuest(domid) };
}

describe('the metrics', () => {
  it('are those of the catalogue, without a disk and with one', async () => {
    await start();
    const types = Object.fromEntries(Object.entries(families).map(([name, { type }]) => [name, type]));
    expect(Object.keys(types).length).toBeGreaterThan(40);
    expect((await scrape()).families).toEqual(types);
    const { guest } = await connectedDisk();
    await guest.read(0, 4096);
    const full = await scrape();
    expect(full.families).toEqual(types);
    const empty = Object.entries(types)
      .map(([name, type]) => (type === 'histogram' ? `${name}_count` : name))
      .filter((name) => full.all(name).length === 0);
    // What has no value while all is well.
    expect(empty).toEqual([
      'xen_blockd_held_since_timestamp_seconds',
      'xen_blockd_stopped_since_timestamp_seconds',
      'xen_blockd_refused_since_timestamp_seconds',
      'xen_blockd_paused_since_timestamp_seconds',
      'xen_blockd_storage_errors_total',
    ]);
  });

  it('tell of a disk that somebody has paused, since when', async () => {
    await start();
    const { guest } = await connectedDisk();
    const client = await QmpClient.connect(host.path('control'));
    const [{ device }] = (await client.execute('x-query-disks')) as { device: string }[];
    const paused = async () => (await scrape()).text.match(/^xen_blockd_paused(_since_timestamp_seconds)?{.*$/gm);
    expect(await paused()).toEqual([expect.stringMatching(/} 0$/)]);
    await client.execute('x-pause', { disk: device });
    expect(await paused()).toEqual([expect.stringMatching(/} 1$/), expect.stringMatching(/} 1\d{9}(\.\d+)?$/)]);
    await client.execute('x-unpause', { disk: device });
    client.close();
    expect(await paused()).toHaveLength(1);
    await guest.read(0, 4096);
  });

  needs('promtool').it('are as Prometheus asks for', async () => {
    await start();
    const { guest } = await connectedDisk();
    await guest.write(0, new Uint8Array(4096));
    const { text } = await scrape();
    const { code, stdout, stderr } = await runTool('sh', [
      '-c',
      'printf %s "$1" | promtool check metrics',
      'promtool',
      text,
    ]);
    expect(`${stdout}${stderr}`).toBe('');
    expect(code).toBe(0);
  });

  it('have the times of each class in buckets, of requests and of the storage', async () => {
    await start();
    const { guest } = await connectedDisk();
    for (let i = 0; i < 20; i++) await guest.read(i * 4096, 4096);
    await guest.write(0, new Uint8Array(4096));
    await guest.flush();
    const now = await scrape();
    for (const name of ['xen_blockd_request_duration_seconds', 'xen_blockd_storage_duration_seconds']) {
      for (const operation of CLASSES) {
        const labels = { ...DISK, operation };
        const buckets = now.all(`${name}_bucket`, labels);
        const limits = buckets.map(({ labels: { le } }) => (le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le)));
        expect(limits).toEqual([...limits].sort((a, b) => a - b));
        expect([limits[0], limits.at(-2)]).toEqual([0.000032, 8.388608]);
        const counts = buckets.map(({ value }) => value);
        expect(counts).toEqual([...counts].sort((a, b) => a - b));
        expect(now.value(`${name}_count`, labels)).toBe(counts.at(-1));
      }
    }
    const reads = { ...DISK, operation: 'read' };
    const [whole, storage] = ['request', 'storage'].map((what) => {
      expect(now.value(`xen_blockd_${what}_duration_seconds_count`, reads)).toBeGreaterThanOrEqual(20);
      return now.value(`xen_blockd_${what}_duration_seconds_sum`, reads) ?? 0;
    });
    expect(whole).toBeGreaterThan(0);
    expect(storage).toBeLessThanOrEqual(whole);
    expect(now.value('xen_blockd_request_duration_seconds_count', { ...DISK, operation: 'discard' })).toBe(0);
  });

  it('say what a disk is, by the name that its guest has when it connects', async () => {
    await start();
    const { domid } = await daemon.attach('web1--incoming');
    const info = async () => (await scrape()).all('xen_blockd_disk_info')[0]?.labels;
    await expect.poll(info, SOON).toMatchObject({ guest: 'web1--incoming' });
    await host.store.write(`/local/domain/${domid}/name`, 'we"b\\1\n2');
    await host.connectGuest(domid);
    await expect.poll(info, SOON).toMatchObject({ guest: 'we"b\\1\\n2' });
    expect(await info()).toEqual({
      ...DISK,
      guest: 'we"b\\1\\n2',
      uuid: (await host.store.read(`/local/domain/${domid}/vm`)).replace('/vm/', ''),
      image: host.path('web1--incoming'),
      format: 'raw',
      engine: expect.stringMatching(/^(io_uring|threads)$/),
    });
    const { samples } = await scrape();
    expect(samples.filter(({ name }) => name === 'xen_blockd_image_size_bytes')).toMatchObject([{ value: 2 << 20 }]);
  });

  it('say what runs and what it uses', async () => {
    await start();
    const now = await scrape();
    const [build] = now.all('xen_blockd_build_info');
    expect(build).toMatchObject({ value: 1, labels: { version: packageVersion(), node: process.versions.node } });
    const started = now.value('process_start_time_seconds') ?? 0;
    expect(Math.abs(started - (Date.now() / 1000 - process.uptime()))).toBeLessThan(60);
    expect(now.value('process_resident_memory_bytes')).toBeGreaterThan(10e6);
    expect(now.value('process_cpu_seconds_total')).toBeGreaterThan(0);
    expect(now.value('process_open_fds')).toBeGreaterThan(3);
    expect(now.value('process_max_fds')).toBeGreaterThan(now.value('process_open_fds') ?? 0);
    expect(now.value('xen_blockd_event_loop_lag_seconds')).toBeGreaterThanOrEqual(0);
  });

  it('do not grow when guests come and go', async () => {
    await start();
    const before = (await scrape()).samples.length;
    for (let i = 0; i < 5; i++) {
      const { domid, guest } = await connectedDisk(`guest${i}`);
      await guest.read(0, 4096);
      expect((await scrape()).all('xen_blockd_disk_info')).toHaveLength(1);
      await host.host.toolstack.detachDisk(domid, 'xvda');
    }
    await expect.poll(async () => (await scrape()).samples.length, SOON).toBe(before);
  });

  it('are there for the next scrape after a client that has left, and for several at once', async () => {
    await start();
    await connectedDisk();
    for (let i = 0; i < 20; i++) {
      const socket = connect(host.path('metrics'));
      await once(socket, 'connect');
      socket.write('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n');
      if (i % 2 === 0) await once(socket, 'data');
      socket.destroy();
    }
    const all = await Promise.all(Array.from({ length: 8 }, scrape));
    for (const { samples } of all) expect(samples.length).toBe(all[0].samples.length);
    expect(all[0].value('xen_blockd_connected', DISK)).toBe(1);
  });

  it('say since when a disk is held, and nothing when it is served again', async () => {
    await start();
    const { guest } = await connectedDisk('image');
    await guest.read(0, 4096);
    daemon.stop();
    await daemon.ended();
    renameSync(host.path('image'), host.path('away'));
    const began = Date.now() / 1000;
    await start();
    const held = async () => (await scrape()).value('xen_blockd_held', DISK);
    await expect.poll(held, SOON).toBe(1);
    const since = (await scrape()).value('xen_blockd_held_since_timestamp_seconds', DISK);
    expect(since).toBeGreaterThanOrEqual(Math.floor(began));
    expect(since).toBeLessThanOrEqual(Date.now() / 1000);
    renameSync(host.path('away'), host.path('image'));
    await expect.poll(held, SOON).toBe(0);
    expect((await scrape()).all('xen_blockd_held_since_timestamp_seconds')).toEqual([]);
    await guest.read(0, 4096);
  });

  it('say since when a disk is refused, and nothing of one that is served', async () => {
    await start();
    const { domid } = await host.host.createDomain({ name: 'guest' });
    await host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: host.path('gone') });
    const began = Date.now() / 1000;
    await expect.poll(async () => (await scrape()).value('xen_blockd_refused', DISK), SOON).toBe(1);
    const since = (await scrape()).value('xen_blockd_refused_since_timestamp_seconds', DISK);
    expect(Math.abs((since ?? 0) - began)).toBeLessThan(30);
    await host.host.toolstack.detachDisk(domid, 'xvda');
    await connectedDisk('other');
    const now = await scrape();
    expect(now.all('xen_blockd_refused')).toMatchObject([{ value: 0 }]);
    expect(now.all('xen_blockd_refused_since_timestamp_seconds')).toEqual([]);
  });

  needs('qemu-img', 'qemu-storage-daemon', working('the addon of xen-sys', requireNativeAddon)).it(
    'count the failures of a storage helper',
    async () => {
      await start();
      const path = host.path('image.qcow2');
      expect((await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', path, '4M'])).code).toBe(0);
      const { domid } = await host.host.createDomain({ name: 'guest' });
      await host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: path, format: 'qcow2' });
      const guest = await host.connectGuest(domid);
      await guest.read(0, 4096);
      const failures = async () => (await scrape()).value('xen_blockd_helper_failures_total', DISK);
      expect(await failures()).toBe(0);
      expect(await scrape().then((now) => now.all('xen_blockd_disk_info')[0].labels)).toMatchObject({
        format: 'qcow2',
        image: path,
        engine: 'qemu-storage-daemon',
      });
      for (const pid of processesWith(host.path('helpers'))) process.kill(pid, 'SIGKILL');
      await guest.read(0, 4096);
      await expect.poll(failures, SOON).toBe(1);
      await host.host.toolstack.detachDisk(domid, 'xvda');
    },
  );
});
