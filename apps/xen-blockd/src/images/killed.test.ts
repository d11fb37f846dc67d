import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Blkfront } from '@xenpv/blkfront';
import { joinHost, type XlDisk } from '@xenpv/emulator';
import { QmpClient } from '@xenpv/qmp';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Cleanup } from '../cleanup.js';
import { FolderHost } from '../testing/folder-host.js';
import { attachTo, GuestLoad } from '../testing/guest-load.js';
import type { BlockdProcess } from '../testing/process.js';
import { processesWith } from '../testing/storage-helpers.js';
import { findTool, runTool } from '../tools.js';

const addon = working('the addon of xen-sys', requireNativeAddon);
/** What traces a process that it has not started. */
const root = { name: 'root', met: () => process.getuid?.() === 0 };
/** Kills of each kind; more for a longer run. */
const KILLS = Number(process.env.HELPER_KILLS ?? 1);
const TIMEOUT_MS = 120_000 + KILLS * 10_000;

let host: FolderHost;
let daemon: BlockdProcess;
let cleanup: Cleanup;

beforeEach(async () => {
  cleanup = new Cleanup();
  host = cleanup.use(await FolderHost.start());
  daemon = await host.daemon('--threads', '2');
});
afterEach(() => cleanup[Symbol.asyncDispose](), 30_000);

async function qcow2(name: string): Promise<string> {
  const path = host.path(name);
  expect((await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', path, '32M'])).code).toBe(0);
  return path;
}

const attach = (disk: Omit<XlDisk, 'vdev'>) => attachTo(host.directory, cleanup, disk);
const load = (disk: Blkfront) => new GuestLoad(disk, { operations: 50, timeoutMs: 20_000 });

async function restart(): Promise<void> {
  await host.kill(daemon);
  daemon = await host.daemon('--threads', '2');
}

async function ask(command: string, args: object = {}): Promise<unknown> {
  const client = await QmpClient.connect(host.path('xen-blockd.sock'));
  return client.execute(command, args).finally(() => client.close());
}

function helperOf(path: string): number {
  const found = processesWith(`"${path}"`);
  expect(found).toHaveLength(1);
  return found[0];
}

const threadsOf = (pid: number) => readdirSync(`/proc/${pid}/task`).map(Number);

/** The next write of a helper waits in the thread that has it, and no other one does. */
class HeldWrite {
  readonly #pid: number;
  readonly #tracers = new Map<number, ChildProcess>();

  private constructor(pid: number) {
    this.#pid = pid;
    cleanup.defer(() => this.release());
  }

  /** Any of the threads that are there may have it: a helper makes no other one while one of those has nothing to do. */
  static async of(pid: number, disk: Blkfront): Promise<HeldWrite> {
    const held = new HeldWrite(pid);
    // The thread that reads this is there for ten seconds more.
    await disk.read(0, 512);
    for (const tid of threadsOf(pid)) if (tid !== pid) held.#trace(tid);
    const traced = () => [...held.#tracers.keys()].map((tid) => held.#says('status', tid, /^TracerPid:\s*(\d+)/m));
    await expect.poll(traced, { timeout: 10_000, interval: 10 }).not.toContain('0');
    return held;
  }

  /** It is there, and waits. The other threads are let go. */
  async waits(): Promise<void> {
    const stopped = () => [...this.#tracers.keys()].filter((tid) => this.#says('stat', tid, /\) (\w)/) === 't');
    let still: number[] = [];
    // Any thread stops for a moment at each call that it makes.
    const stay = async () => {
      const before = stopped();
      await sleep(200);
      still = stopped().filter((tid) => before.includes(tid));
      return still;
    };
    await expect.poll(stay, { timeout: 10_000 }).toHaveLength(1);
    await this.#letGo([...this.#tracers.keys()].filter((tid) => !still.includes(tid)));
    expect(stopped()).toEqual(still);
  }

  async release(): Promise<void> {
    await this.#letGo([...this.#tracers.keys()]);
  }

  /** Threads that it makes are not traced. */
  #trace(tid: number): void {
    const held = ['-e', 'trace=pwrite64,pwritev', '-e', 'inject=pwrite64,pwritev:delay_enter=1000000000'];
    const strace = spawn('strace', ['-qq', ...held, '-o', '/dev/null', '-p', String(tid)], { stdio: 'ignore' });
    this.#tracers.set(tid, strace);
  }

  async #letGo(tids: readonly number[]): Promise<void> {
    for (const tid of tids) {
      const strace = this.#tracers.get(tid);
      this.#tracers.delete(tid);
      if (!strace || strace.exitCode !== null || strace.signalCode !== null) continue;
      const ended = once(strace, 'exit');
      strace.kill('SIGKILL');
      await ended;
    }
  }

  /** Undefined of a thread that has ended, which had nothing to do. */
  #says(file: string, tid: number, what: RegExp): string | undefined {
    try {
      return what.exec(readFileSync(`/proc/${this.#pid}/task/${tid}/${file}`, 'latin1'))?.[1];
    } catch {
      return undefined;
    }
  }
}

/** Writes that are not flushed when a helper is killed. */
const KEPT = 5;
const KEPT_VALUES = Array.from({ length: KEPT }, (_, i) => i + 1);
const page = (value: number) => new Uint8Array(4096).fill(value);

/** Of the first pages, each of which is one value. */
async function valuesOf(disk: Blkfront): Promise<number[]> {
  const bytes = await disk.read(0, (1 + KEPT) * 4096);
  const pages = Array.from({ length: 1 + KEPT }, (_, i) => bytes.subarray(i * 4096, (i + 1) * 4096));
  return pages.map((each) => (each.every((byte) => byte === each[0]) ? each[0] : -1));
}

/** How many kept writes the daemon that runs has sent again, each time. */
function resent(): number[] {
  const lines = daemon.stderr.split('\n').filter((line) => line.includes('"resent"'));
  return lines.map((line) => JSON.parse(line).resent);
}

const killHelper = (path: string) => process.kill(helperOf(path), 'SIGKILL');

needs(addon, 'qemu-img', 'qemu-storage-daemon', 'Linux').describe('a guest loses nothing on qcow2', () => {
  it.each<[string, (path: string) => Promise<void>]>([
    ['the storage helper', async (path) => void killHelper(path)],
    [
      'the daemon, whose helper goes on',
      async (path) => {
        const helper = helperOf(path);
        await restart();
        await expect.poll(() => daemon.stderr, { timeout: 15_000 }).toContain('"adopted":true');
        expect(helperOf(path)).toBe(helper);
      },
    ],
    [
      'the daemon and its helper',
      async (path) => {
        const helper = helperOf(path);
        const restarted = restart();
        process.kill(helper, 'SIGKILL');
        await restarted;
      },
    ],
    [
      'the daemon, and its successor while it takes over, and the helper that hangs',
      async (path) => {
        const helper = helperOf(path);
        await host.kill(daemon);
        const next = await host.daemon();
        await host.kill(next);
        process.kill(helper, 'SIGSTOP');
        daemon = await host.daemon('--threads', '2');
      },
    ],
  ])('when somebody kills %s', { timeout: TIMEOUT_MS }, async (_, kill) => {
    const path = await qcow2('disk.qcow2');
    const loaded = load(await attach({ target: path, format: 'qcow2' }));
    await loaded.goesOn();
    for (let kills = 0; kills < KILLS; kills++) {
      await kill(path);
      await loaded.goesOn();
    }
    killHelper(path);
    await loaded.end();
  });

  needs(root, 'strace').it(
    'nor by a write that a dead daemon has left in its helper, and which ends late',
    {
      timeout: TIMEOUT_MS,
    },
    async () => {
      const path = await qcow2('disk.qcow2');
      const disk = await attach({ target: path, format: 'qcow2' });
      await disk.write(0, page(1));
      await disk.flush();
      const held = await HeldWrite.of(helperOf(path), disk);
      const answered: string[] = [];
      const first = disk.write(0, page(2)).then(() => answered.push('first'));
      const later = first.then(() => disk.write(0, page(3))).then(() => answered.push('later'));
      later.catch(() => {});
      await held.waits();
      await restart();
      // What comes too early would be there by then.
      await sleep(2000);
      expect(answered).toEqual([]);
      await held.release();
      await expect.poll(() => daemon.stderr, { timeout: 30_000 }).toContain('"adopted":true');
      await later;
      await held.release();
      await sleep(200);
      await disk.flush();
      expect((await disk.read(0, 4096)).every((byte) => byte === 3)).toBe(true);
    },
  );

  // A thread that is held so does not end by SIGKILL either, as one that waits for storage in the kernel does not.
  needs(root, 'strace').it(
    'nor by a write that a dead daemon has left in its helper, which is killed with the next daemon, without a lock',
    { timeout: 2 * TIMEOUT_MS },
    async () => {
      const path = await qcow2('disk.qcow2');
      const disk = await attach({ target: path, format: 'qcow2', backendKeys: { mode: 'w!' } });
      await disk.write(0, page(1));
      await disk.flush();
      for (let i = 1; i <= KEPT; i++) await disk.write(i * 4096, page(i));
      const held = await HeldWrite.of(helperOf(path), disk);
      const answered: string[] = [];
      const first = disk.write(0, page(2)).then(() => answered.push('first'));
      const later = first.then(() => disk.write(0, page(3))).then(() => answered.push('later'));
      later.catch(() => {});
      await held.waits();
      await restart();
      killHelper(path);
      await restart();
      await expect.poll(() => daemon.stderr, { timeout: 90_000 }).toContain('"msg":"held, its guest waits');
      expect(answered).toEqual([]);
      await held.release();
      await later;
      expect(await valuesOf(disk)).toEqual([3, ...KEPT_VALUES]);
      // What was kept is there once, and so is what was written since; a flush covers all of it.
      for (const expected of [[KEPT + 2], [KEPT + 2, 0]]) {
        killHelper(path);
        expect(await valuesOf(disk)).toEqual([3, ...KEPT_VALUES]);
        await expect.poll(resent, { timeout: 20_000 }).toEqual(expected);
        await disk.flush();
      }
    },
  );

  it('a second disk does not notice, and a helper whose disk went meanwhile is ended', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const [path, other] = [await qcow2('disk.qcow2'), await qcow2('other.qcow2')];
    const [loaded, still] = [
      load(await attach({ target: path, format: 'qcow2' })),
      load(await attach({ target: other, format: 'qcow2' })),
    ];
    await Promise.all([loaded.goesOn(), still.goesOn()]);
    killHelper(path);
    await restart();
    await Promise.all([loaded.goesOn(), still.goesOn()]);
    await Promise.all([loaded.end(), still.end()]);
    await host.kill(daemon);
    const store = cleanup.use(XenstoreClient.open(await (await joinHost(host.directory)).connectXenstore()));
    await store.remove('/local/domain/0/backend/qdisk');
    daemon = await host.daemon();
    // What writes back what was kept is a helper too, for a moment.
    const helpers = () => [processesWith(`"${path}"`), processesWith(`"${other}"`)];
    await expect.poll(helpers, { timeout: 15_000 }).toEqual([[], []]);
    await expect.poll(() => processesWith(host.directory).length).toBeLessThanOrEqual(2);
    // 3: clusters are taken that nothing uses. A busy machine may have the helper killed before it is done.
    // A process that ends has no command line any more, and its locks for a moment still.
    const check = async () => (await runTool('qemu-img', ['check', path])).code ?? -1;
    await expect.poll(check, { timeout: 15_000 }).toSatisfy((code: number) => code === 0 || code === 3);
  });

  it('a backup ends with its daemon, and what it wrote is gone', { timeout: TIMEOUT_MS }, async () => {
    const path = await qcow2('disk.qcow2');
    const loaded = load(await attach({ target: path, format: 'qcow2' }));
    await loaded.goesOn();
    const [helper, target] = [helperOf(path), host.path('backup.qcow2')];
    const device = ((await ask('query-block')) as { device: string }[])[0].device;
    await ask('drive-backup', { device, target, sync: 'full', speed: 65_536 });
    await loaded.goesOn();
    expect(existsSync(host.path('.backup.qcow2.unfinished'))).toBe(true);
    await restart();
    await expect.poll(() => daemon.stderr, { timeout: 15_000 }).toContain('"adopted":true');
    expect({ pid: helperOf(path), said: daemon.stderr }).toMatchObject({ pid: helper });
    expect(await ask('query-block-jobs')).toEqual([]);
    expect(readdirSync(host.directory).filter((name) => name.includes('backup'))).toEqual([]);
    expect(processesWith('backup.qcow2')).toEqual([]);
    await loaded.goesOn();
    await ask('drive-backup', { device, target, sync: 'full' });
    await expect.poll(() => existsSync(target), { timeout: 20_000 }).toBe(true);
    await loaded.goesOn();
    await loaded.end();
  });

  it('a backup that is pulled ends with its daemon, and another one can be', { timeout: TIMEOUT_MS }, async () => {
    const path = await qcow2('disk.qcow2');
    const loaded = load(await attach({ target: path, format: 'qcow2' }));
    await loaded.goesOn();
    const helper = helperOf(path);
    const device = ((await ask('query-block')) as { device: string }[])[0].device;
    const pull = async () => {
      const file = { driver: 'file', filename: host.path('scratch.img') };
      await ask('nbd-server-start', { addr: { type: 'unix', data: { path: host.path('nbd') } } });
      await ask('blockdev-add', { driver: 'qcow2', 'node-name': 'scratch', file, backing: device });
      await ask('blockdev-backup', { device, target: 'scratch', sync: 'none' });
      await ask('block-export-add', { type: 'nbd', id: 'pull', 'node-name': 'scratch' });
    };
    writeFileSync(host.path('scratch.img'), '');
    for (let round = 0; round < 2; round++) {
      await pull();
      await loaded.goesOn();
      await restart();
      await expect.poll(() => daemon.stderr, { timeout: 15_000 }).toContain('"adopted":true');
      expect({ pid: helperOf(path), said: daemon.stderr }).toMatchObject({ pid: helper });
      expect(await ask('query-block-jobs')).toEqual([]);
      expect(processesWith('scratch.img')).toEqual([]);
      await loaded.goesOn();
    }
    await pull();
    await loaded.goesOn();
    await loaded.end();
  });

  it.each<[string, 'backup' | 'mirror', object]>([
    ['a backup', 'backup', { speed: 65_536 }],
    ['a mirror that copies', 'mirror', { speed: 65_536 }],
    ['a mirror that follows', 'mirror', {}],
  ])(
    '%s ends with a planned restart, which is told, and what it wrote is gone',
    {
      timeout: TIMEOUT_MS,
    },
    async (name, type, args) => {
      const path = await qcow2('disk.qcow2');
      const loaded = load(await attach({ target: path, format: 'qcow2' }));
      await loaded.goesOn();
      const target = host.path('copy.qcow2');
      const blocks = async () => (await ask('query-block')) as { device: string; inserted: { file: string } }[];
      const [{ device }] = await blocks();
      await ask(`drive-${type}`, { device, target, sync: 'full', ...args });
      if (name.endsWith('follows')) {
        const isReady = async () => ((await ask('query-block-jobs')) as { ready: boolean }[])[0]?.ready;
        await expect.poll(isReady, { timeout: 20_000 }).toBe(true);
      }
      await loaded.goesOn();
      const stopping = daemon;
      await host.kill(stopping, 'SIGTERM');
      const { code, stderr } = await stopping.ended;
      const lines = stderr.split('\n').filter((line) => line.includes('"msg":"block job'));
      const told = lines.map((line) => JSON.parse(line)).filter(({ msg }) => !msg.includes('waits to be completed'));
      const cancelled = { level: 30, msg: 'block job was cancelled', job: device, type, path };
      const why = { reason: 'its storage helper was stopped' };
      expect({ code, told }).toMatchObject({ code: 0, told: [{ ...cancelled, ...why }] });
      expect(told[0]).not.toHaveProperty('done');
      // Before the next one is there to tidy up.
      expect(readdirSync(host.directory).filter((file) => file.includes('copy'))).toEqual([]);
      daemon = await host.daemon('--threads', '2');
      await loaded.goesOn();
      expect(await ask('query-block-jobs')).toEqual([]);
      expect(await blocks()).toMatchObject([{ device, inserted: { file: path } }]);
      await loaded.end();
    },
  );

  it('what a snapshot and a backup were making when the daemon was killed is gone, and can be made again', {
    timeout: TIMEOUT_MS,
  }, async () => {
    // What makes the file for them kills the daemon as soon as it is there.
    const bin = host.path('bin');
    mkdirSync(bin);
    writeFileSync(`${bin}/qemu-img`, `#!/bin/sh\n${findTool('qemu-img')} "$@"\nkill -9 $PPID\n`, { mode: 0o755 });
    const path = await qcow2('disk.qcow2');
    const loaded = load(await attach({ target: path, format: 'qcow2' }));
    await loaded.goesOn();
    const device = ((await ask('query-block')) as { device: string }[])[0].device;
    const making: [string, object, string][] = [
      ['x-snapshot', { disk: device, filename: host.path('monday.qcow2') }, '.disk.qcow2.new-layer'],
      ['drive-backup', { device, target: host.path('backup.qcow2'), sync: 'full' }, '.backup.qcow2.unfinished'],
    ];
    const left = () => making.map(([, , file]) => existsSync(host.path(file)));
    for (const [i, [command, args]] of making.entries()) {
      await host.kill(daemon);
      daemon = await host.daemonIn({ PATH: `${bin}:${process.env.PATH}` }, '--threads', '2');
      await loaded.goesOn();
      expect(left()).toEqual([false, false]);
      await expect(ask(command, args)).rejects.toThrow('closed');
      await daemon.ended;
      expect(left()[i]).toBe(true);
    }
    daemon = await host.daemon('--threads', '2');
    await loaded.goesOn();
    expect(left()).toEqual([false, false]);
    for (const [command, args] of making) await ask(command, args);
    await expect.poll(() => existsSync(host.path('backup.qcow2')), { timeout: 20_000 }).toBe(true);
    await loaded.end();
  });

  it('a commit that is cut off at any instant leaves a disk with all that its guest wrote', {
    timeout: 60_000 + KILLS * 60_000,
  }, async () => {
    const path = await qcow2('disk.qcow2');
    const loaded = load(await attach({ target: path, format: 'qcow2' }));
    await loaded.goesOn();
    const device = ((await ask('query-block')) as { device: string }[])[0].device;
    const isReady = async () => ((await ask('query-block-jobs')) as { ready: boolean }[])[0]?.ready === true;
    for (let round = 0; round < 8 * KILLS; round++) {
      const snapshot = host.path(`${round}.qcow2`);
      await ask('x-snapshot', { disk: device, filename: snapshot });
      await loaded.goesOn();
      await ask('block-commit', { device, base: snapshot });
      if (round % 4 > 0) {
        await expect.poll(isReady, { timeout: 20_000 }).toBe(true);
        // The exchange takes some tenths of a second.
        ask('block-job-complete', { device }).catch(() => {});
      }
      await sleep((round % 8) * 30);
      if (round % 2 > 0) for (const pid of processesWith(`"${path}"`)) process.kill(pid, 'SIGKILL');
      await restart();
      await loaded.goesOn();
    }
    await loaded.end();
  });

  it('a mirror that is completed while the daemon is killed leaves the disk on one of both images, with all', {
    timeout: 60_000 + KILLS * 60_000,
  }, async () => {
    let path = await qcow2('disk.qcow2');
    const loaded = load(await attach({ target: path, format: 'qcow2' }));
    await loaded.goesOn();
    const blocks = async () => (await ask('query-block')) as { device: string; inserted: { file: string } }[];
    const [{ device }] = await blocks();
    const isReady = async () => ((await ask('query-block-jobs')) as { ready: boolean }[])[0]?.ready === true;
    for (let round = 0; round < 6 * KILLS; round++) {
      await ask('drive-mirror', { device, target: host.path(`${round}.qcow2`), sync: 'full' });
      await expect.poll(isReady, { timeout: 20_000 }).toBe(true);
      ask('block-job-complete', { device }).catch(() => {});
      await sleep((round % 6) * 60);
      await restart();
      await loaded.goesOn();
      [
        {
          inserted: { file: path },
        },
      ] = await blocks();
      // Nobody has any other one.
      expect(processesWith(host.directory).flatMap((pid) => (pid === helperOf(path) ? [] : [pid]))).toHaveLength(2);
    }
    await loaded.end();
  });
});
