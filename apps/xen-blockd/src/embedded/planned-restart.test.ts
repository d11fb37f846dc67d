import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Blkfront, type BlkfrontOptions } from '@xenpv/blkfront';
import { joinHost, RemoteHost } from '@xenpv/emulator';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { Cleanup } from '../cleanup.js';
import { TestDaemon } from '../testing/daemon.js';
import { FolderHost } from '../testing/folder-host.js';
import type { BlockdProcess } from '../testing/process.js';
import { type LoadReport, verifiedLoad } from './verified-load.js';

const addon = working('the addon of xen-sys', requireNativeAddon);
const MIB = 1024 * 1024;
// Programs start, with all that else runs on the machine.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 30_000 });

needs(addon).describe('a planned restart', () => {
  let host: FolderHost;

  beforeEach(async () => {
    host = await FolderHost.start();
  });
  afterEach(() => host[Symbol.asyncDispose]());

  /** A guest in this process, which writes and checks until it is told to stop. */
  class Guest {
    readonly #cleanup = new Cleanup();
    readonly #stop = new AbortController();
    readonly #loading: ReturnType<typeof verifiedLoad>;
    #done = 0;

    private constructor(disk: Blkfront, cleanup: Cleanup) {
      this.#cleanup = cleanup;
      const progress = (done: number) => {
        this.#done = done;
      };
      this.#loading = verifiedLoad(disk, { depth: 4, signal: this.#stop.signal, progress });
    }

    static async connect(target: string, options: Partial<BlkfrontOptions> = {}): Promise<Guest> {
      const cleanup = new Cleanup();
      const remote = cleanup.use(await RemoteHost.connect(host.directory));
      const { domid } = await remote.createDomain({ name: 'guest', transient: true });
      await remote.attachDisk(domid, { vdev: 'xvda', target, backendType: 'qdisk', readOnly: false });
      const provider = await joinHost(host.directory, { domid });
      const store = cleanup.use(XenstoreClient.open(await provider.connectXenstore()));
      return new Guest(cleanup.use(await Blkfront.connect({ provider, store, vdev: 'xvda', ...options })), cleanup);
    }

    /** Operations that were answered, as the load tells now and then. */
    get done(): number {
      return this.#done;
    }

    /** What the load found, once all is answered. */
    async stopped(): Promise<LoadReport> {
      this.#stop.abort();
      const report = await this.#loading;
      await this.#cleanup[Symbol.asyncDispose]();
      return report;
    }
  }

  function image(name: string): string {
    const path = host.path(name);
    writeFileSync(path, '');
    truncateSync(path, 8 * MIB);
    return path;
  }

  const configured = (...lines: string[]) => {
    writeFileSync(host.path('config'), `nbd-directory = false\n${lines.join('\n')}\n`);
    return ['--config', host.path('config')];
  };
  const stop = async (daemon: BlockdProcess) => {
    daemon.signal('SIGTERM');
    return (await daemon.ended).code;
  };
  const adopted = (daemon: BlockdProcess) =>
    expect.poll(() => daemon.stderr, { timeout: 15_000 }).toContain('"adopted":true');

  it('into smaller and larger limits is a pause, again and again', async () => {
    const limits = [
      ['max-queues = 1', 'max-ring-page-order = 0', 'max-indirect-segments = 0'],
      ['max-queues = 8', 'transfer = "persistent"', 'sector-size = "image"', 'threads = 0'],
      ['max-queues = 2', 'max-ring-page-order = 1', 'max-indirect-segments = 16', 'threads = 2', 'engine = "threads"'],
    ];
    let daemon = await host.daemon(...configured('max-queues = 4'));
    const guest = await Guest.connect(image('image'), { queues: 4, ringPageOrder: 4, persistent: true });
    for (const lines of limits) {
      expect(await stop(daemon)).toBe(0);
      daemon = await host.daemon(...configured(...lines));
      await adopted(daemon);
    }
    expect(await guest.stopped()).toMatchObject({ errors: 0, wrong: 0 });
    expect(await stop(daemon)).toBe(0);
  });

  it('is a pause though SIGTERM comes at any moment of a start', async () => {
    let daemon = await host.daemon();
    const guests = await Promise.all(['one', 'two'].map((name) => Guest.connect(image(name))));
    expect(await stop(daemon)).toBe(0);
    // From one line of its log to the next it gets further.
    const moments = ['"device found"', '"serving"', '"ready"'];
    for (const moment of moments) {
      daemon = host.starting('--log-level', 'debug');
      await daemon.says(moment);
      const code = await stop(daemon);
      expect([moment, code]).toEqual([moment, 0]);
    }
    daemon = await host.daemon();
    await adopted(daemon);
    for (const guest of guests) expect(await guest.stopped()).toMatchObject({ errors: 0, wrong: 0 });
    expect(await stop(daemon)).toBe(0);
  });

  needs('qemu-storage-daemon').describe('with storage that hangs', () => {
    let server: ChildProcess;
    let target: string;

    beforeEach(async () => {
      const socket = host.path('nbd.sock');
      server = spawn('qemu-storage-daemon', [
        ...['--blockdev', `driver=file,node-name=disk,filename=${image('hanging')}`],
        ...['--nbd-server', `addr.type=unix,addr.path=${socket},max-connections=0`],
        ...['--export', 'type=nbd,id=disk,node-name=disk,name=disk,writable=on'],
      ]);
      onTestFinished(() => void server.kill('SIGKILL'));
      await expect.poll(() => existsSync(socket)).toBe(true);
      target = `nbd+unix:///disk?socket=${socket}`;
    });

    it.each([
      ['after stop-seconds', 'stop-seconds = 1', ['SIGTERM']],
      ['at a second signal', 'stop-seconds = 25', ['SIGINT', 'SIGTERM']],
    ] as const)('ends %s, and the next process does what is left', async (_, seconds, signals) => {
      const config = configured(seconds, 'threads = 1');
      const first = await host.daemon(...config);
      const guests = await Promise.all([image('good'), target].map((disk) => Guest.connect(disk)));
      await expect.poll(() => guests.every(({ done }) => done > 0)).toBe(true);
      server.kill('SIGSTOP');
      // It has four requests at any time; they are taken by then.
      await sleep(100);
      for (const signal of signals) {
        first.signal(signal);
        await first.says('stopping');
      }
      const { code, stderr } = await first.ended;
      expect(code).toBe(0);
      expect(stderr).toContain(signals.length > 1 ? 'the second signal' : 'left to the next process');
      server.kill('SIGCONT');
      const second = await host.daemon(...config);
      await expect.poll(() => second.stderr.match(/"adopted":true/g)?.length, { timeout: 15_000 }).toBe(2);
      for (const guest of guests) expect(await guest.stopped()).toMatchObject({ errors: 0, wrong: 0 });
      expect(await stop(second)).toBe(0);
    });
  });
});

describe('a stop while a medium changes', () => {
  it('gives up the new one, which its server never opens, and the next process serves what is named then', async () => {
    await using daemon = await TestDaemon.create();
    const config = { 'stop-seconds': 5, 'journal-directory': daemon.host.path('journal') };
    const first = daemon.start(config);
    await daemon.says('ready');
    const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
    const target = daemon.host.path('medium');
    writeFileSync(target, Buffer.alloc(MIB, 7));
    const drive = { vdev: 'xvdc', target, deviceType: 'cdrom', readOnly: true } as const;
    await daemon.host.host.toolstack.attachDisk(domid, drive);
    const guest = await daemon.host.connectGuest(domid, { vdev: 'xvdc' });
    const socket = daemon.host.path('silent');
    const silent = createServer().listen(socket);
    onTestFinished(() => void silent.close());
    const backendPath = `/local/domain/0/backend/qdisk/${domid}/51744`;
    const asked = once(silent, 'connection');
    await daemon.host.store.write(`${backendPath}/params`, `aio:nbd+unix:///x?socket=${socket}`);
    await asked;
    daemon.stop();
    expect(await first).toBe(0);
    expect(await daemon.host.store.read(`${backendPath}/state`)).toBe('4');
    await daemon.host.store.write(`${backendPath}/params`, `aio:${target}`);
    const reading = guest.read(0, 512);
    const second = daemon.start(config);
    expect((await reading).every((byte) => byte === 7)).toBe(true);
    await guest.close();
    daemon.stop();
    expect(await second).toBe(0);
  });
});
