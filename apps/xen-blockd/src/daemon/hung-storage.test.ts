import { truncateSync, writeFileSync } from 'node:fs';
import { Blkfront } from '@xenpv/blkfront';
import { joinHost, RemoteHost } from '@xenpv/emulator';
import { needs, working } from '@xenpv/test-support';
import { ThrottledDevices } from '@xenpv/test-support/throttled-devices';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect, onTestFinished, vi } from 'vitest';
import { Cleanup } from '../cleanup.js';
import { FolderHost } from '../testing/folder-host.js';
import type { BlockdProcess } from '../testing/process.js';
import { runBlockd } from '../testing/process.js';

// Programs start, with all that else runs on the machine.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const MIB = 1 << 20;
const PAGE = 4096;
const SOON = { timeout: 30_000 };
const addon = working('the addon of xen-sys', requireNativeAddon);
const held = { name: 'a block device whose requests can be held back', met: () => !ThrottledDevices.missing };
const engines = ['io_uring', 'threads'] as const;

needs(addon, held).describe('a disk of a living guest whose storage hangs', () => {
  let host: FolderHost;
  let devices: ThrottledDevices;
  let cleanup: Cleanup;
  let hung: string;
  let release: () => void;

  beforeEach(async () => {
    host = await FolderHost.start();
    devices = new ThrottledDevices(`hung-storage-${process.pid}`);
    hung = devices.create(file('hung'));
    release = () => devices.limit(hung, 'bps', 'none');
    cleanup = new Cleanup();
  });
  afterEach(async () => {
    release();
    await cleanup[Symbol.asyncDispose]().catch(() => {});
    await host[Symbol.asyncDispose]();
    devices[Symbol.dispose]();
  });

  function file(name: string): string {
    const path = host.path(name);
    writeFileSync(path, '');
    truncateSync(path, 8 * MIB);
    return path;
  }

  const socket = () => ['--socket', host.path('xen-blockd.sock')];

  async function connect(target: string): Promise<{ disk: Blkfront; domid: number }> {
    const remote = cleanup.use(await RemoteHost.connect(host.directory));
    const { domid } = await remote.createDomain({ name: 'guest', transient: true });
    await remote.attachDisk(domid, { vdev: 'xvda', target, backendType: 'qdisk', readOnly: false });
    const provider = await joinHost(host.directory, { domid });
    const store = cleanup.use(XenstoreClient.open(await provider.connectXenstore()));
    return { domid, disk: await Blkfront.connect({ provider, store, vdev: 'xvda' }) };
  }

  /** The disk's requests hang from now on; resolves with those that were made. */
  async function hang(daemon: BlockdProcess, disk: Blkfront): Promise<Promise<unknown>[]> {
    devices.limit(hung, 'bps', 1);
    devices.add(daemon.child.pid);
    const requests = Array.from({ length: 12 }, (_, i) =>
      (i % 3 === 2 ? disk.flush() : disk.write(i * MIB * 0.5, new Uint8Array(PAGE).fill(i))).then(
        () => 'done',
        (error: Error) => error,
      ),
    );
    onTestFinished(() => void Promise.allSettled(requests));
    const inFlight = async () => {
      const { stdout } = await runBlockd('stats', '--json', ...socket());
      return stdout;
    };
    await expect.poll(inFlight, SOON).toMatch(/"inFlight":\s*[1-9]/);
    return requests;
  }

  /** Another guest's disk works. */
  async function works(disk: Blkfront): Promise<void> {
    for (let i = 1; i < 20; i++) {
      await disk.write(i * PAGE, new Uint8Array(PAGE).fill(i));
      await disk.flush();
      expect((await disk.read(i * PAGE, PAGE)).every((byte) => byte === i)).toBe(true);
    }
  }

  needs().it.each(engines)(
    'does not let go by detach, and is told so; by force it goes at once (%s)',
    async (engine) => {
      const daemon = await host.daemon('--engine', engine, '--threads', '0');
      const [victim, { disk, domid }] = [await connect(file('other')), await connect(hung)];
      const requests = await hang(daemon, disk);
      await works(victim.disk);
      const detached = await runBlockd('detach', `${domid}:xvda`, ...socket());
      expect(detached.stderr).toContain('did not close within 10000 ms');
      expect(detached.code).toBe(1);
      await works(victim.disk);
      const forced = await runBlockd('detach', `${domid}:xvda`, '--force', ...socket());
      expect(forced).toMatchObject({ code: 0, stderr: '' });
      await works(victim.disk);
      release();
      expect((await Promise.all(requests)).length).toBe(12);
      await host.kill(daemon, 'SIGTERM');
    },
  );

  needs().it.each(engines)('does not keep SIGTERM from ending the daemon, and nothing is lost (%s)', async (engine) => {
    const daemon = await host.daemon('--engine', engine, '--threads', '0');
    const { disk } = await connect(hung);
    const requests = await hang(daemon, disk);
    daemon.signal('SIGTERM');
    await daemon.says('its requests in flight are left to the next process');
    // The kernel ends a process when what it does for it in the storage has returned, whoever kills it.
    release();
    expect((await daemon.ended).code).toBe(0);
    const next = host.starting('--engine', engine);
    await next.says('"ready"');
    expect(await Promise.all(requests)).toEqual(requests.map(() => 'done'));
    for (let i = 0; i < 12; i++) {
      if (i % 3 === 2) continue;
      expect((await disk.read(i * MIB * 0.5, PAGE)).every((byte) => byte === i)).toBe(true);
    }
    await disk.close();
  });
});
