import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { Blkfront } from '@xenpv/blkfront';
import { joinHost, RemoteHost } from '@xenpv/emulator';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Cleanup } from '../cleanup.js';
import { verifiedLoad } from '../embedded/verified-load.js';
import { FolderHost } from '../testing/folder-host.js';
import type { BlockdProcess } from '../testing/process.js';

const addon = working('the addon of xen-sys', requireNativeAddon);
const BLOCK = 4096;
const { ENOSPC } = constants.errno;
const SOON = { timeout: 30_000, interval: 20 };

let host: FolderHost;
let daemon: BlockdProcess;
let cleanup: Cleanup;
let server: ChildProcess | undefined;

beforeEach(async () => {
  cleanup = new Cleanup();
  host = cleanup.use(await FolderHost.start());
  writeFileSync(host.path('image'), '');
  truncateSync(host.path('image'), 32 << 20);
  daemon = await host.daemon('--threads', '2');
  await startServer();
});

afterEach(async () => {
  await cleanup[Symbol.asyncDispose]();
  await killServer();
});

/** An NBD server that is nobody's helper. What it has not flushed is in the page cache. It may refuse its first write. */
async function startServer({ refusing = false } = {}): Promise<void> {
  const socket = host.path('nbd');
  rmSync(socket, { force: true });
  const fault = Object.entries({ event: 'none', iotype: 'write', errno: ENOSPC, once: 'on' });
  const faulty = ['driver=blkdebug,image=file', ...fault.map(([key, value]) => `inject-error.0.${key}=${value}`)];
  server = spawn('qemu-storage-daemon', [
    ...['--blockdev', `driver=file,node-name=file,filename=${host.path('image')}`],
    ...['--blockdev', `${refusing ? faulty.join(',') : 'driver=raw,file=file'},node-name=disk`],
    ...['--nbd-server', `addr.type=unix,addr.path=${socket},max-connections=0`],
    ...['--export', 'type=nbd,id=disk,node-name=disk,name=disk,writable=on'],
  ]);
  await expect.poll(() => existsSync(socket), SOON).toBe(true);
}

async function killServer(): Promise<void> {
  const killed = server;
  server = undefined;
  if (!killed || killed.exitCode !== null || killed.signalCode !== null) return;
  killed.kill('SIGKILL');
  await once(killed, 'exit');
}

async function attach(reconnectSeconds: number): Promise<Blkfront> {
  const remote = cleanup.use(await RemoteHost.connect(host.directory));
  const { domid } = await remote.createDomain({ name: 'guest', transient: true });
  const target = `nbd+unix:///disk?socket=${host.path('nbd')}&reconnect-seconds=${reconnectSeconds}`;
  await remote.attachDisk(domid, { vdev: 'xvda', target });
  const provider = await joinHost(host.directory, { domid });
  const store = cleanup.use(XenstoreClient.open(await provider.connectXenstore()));
  return cleanup.use(await Blkfront.connect({ provider, store, vdev: 'xvda', queues: 2 }));
}

/** A guest with the server's disk that writes and reads until it is ended. */
async function startLoad(reconnectSeconds: number) {
  const disk = await attach(reconnectSeconds);
  const stop = new AbortController();
  let operations = 0;
  const progress = (count: number) => void (operations = count);
  const report = verifiedLoad(disk, { depth: 8, signal: stop.signal, progress });
  return {
    /** It has got on since this was asked for. */
    async goesOn(): Promise<void> {
      const before = operations;
      await expect.poll(() => operations, SOON).toBeGreaterThan(before + 50);
    },
    async end() {
      stop.abort();
      return report;
    },
  };
}

/** What the daemon has logged. */
const lines = () =>
  daemon.stderr
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { msg: string });

const settled = async (promises: Promise<void>[]) => (await Promise.allSettled(promises)).map(({ status }) => status);

needs(addon, 'qemu-storage-daemon', 'Linux').describe('a guest on an NBD server of somebody else', () => {
  it('loses nothing when the server is killed and back in time, alone and with the daemon', async () => {
    const load = await startLoad(60);
    await load.goesOn();
    await killServer();
    await expect.poll(() => daemon.stderr, SOON).toContain('lost the NBD server');
    await startServer();
    await load.goesOn();
    await Promise.all([host.kill(daemon), killServer()]);
    daemon = await host.daemon('--threads', '2');
    await startServer();
    await expect.poll(() => daemon.stderr, SOON).toContain('"adopted":true');
    await load.goesOn();
    expect(await load.end()).toMatchObject({ errors: 0, wrong: 0 });
  }, 150_000);

  it('gets errors when the server is away for longer, and is served again when it is back', async () => {
    const load = await startLoad(1);
    await load.goesOn();
    await killServer();
    await expect.poll(() => daemon.stderr, SOON).toContain('"storage error"');
    await startServer();
    await expect.poll(() => daemon.stderr, SOON).toContain('the NBD server is back');
    await load.goesOn();
    const { errors, wrong } = await load.end();
    expect(errors).toBeGreaterThan(0);
    expect(wrong).toBe(0);
  }, 150_000);

  it.each<[string, (restart: () => Promise<void>) => Promise<void>, object]>([
    [
      'alone',
      (restart) => restart(),
      { level: 50, resent: 3, msg: 'the NBD server is back, without writes that were not flushed' },
    ],
    [
      'with the daemon',
      async (restart) => {
        await host.kill(daemon);
        await restart();
        daemon = await host.daemon('--threads', '2');
      },
      {
        level: 50,
        bytes: BLOCK,
        reason: 'the server refuses them: ENOSPC',
        msg: 'writes of an earlier process that were not flushed are dropped',
      },
    ],
  ])(
    'that is killed %s and refuses what it had acknowledged: that is told, and one flush fails, once',
    {
      timeout: 150_000,
    },
    async (_, around, line) => {
      const disk = await attach(60);
      for (let block = 0; block < 3; block++) await disk.write(block * BLOCK, new Uint8Array(BLOCK).fill(block + 1));
      await around(async () => {
        await killServer();
        await startServer({ refusing: true });
      });
      expect((await disk.read(BLOCK, BLOCK)).at(9)).toBe(2);
      await expect.poll(lines, SOON).toContainEqual(expect.objectContaining(line));
      // Whichever queue carries it.
      const flushes = await settled([disk.flush(), disk.flush(), disk.flush(), disk.flush()]);
      expect(flushes.filter((outcome) => outcome === 'rejected')).toHaveLength(1);
      await disk.write(0, new Uint8Array(BLOCK).fill(9));
      expect(await settled([disk.flush(), disk.flush()])).toEqual(['fulfilled', 'fulfilled']);
    },
  );
});
