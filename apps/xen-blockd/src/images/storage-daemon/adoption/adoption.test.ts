import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type BlockImage, type ImageDisk, nbdDiskOf } from '@xenpv/blockdev';
import { QmpClient } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { HelperBench, processesWith } from '../../../testing/storage-helpers.js';
import { runTool } from '../../../tools.js';
import { ImageChain } from '../../chain/chain.js';
import { storageDaemonArguments } from '../arguments.js';
import { openFormatImage } from '../format-image.js';
import { deviceFolder, HelperDirectory } from '../helper-directory.js';
import { Orphans, type OrphansOptions } from './orphans.js';

const DEVICE = 'qdisk-5-51712';
const BLOCK = new Uint8Array(4096).fill(7);

let bench: HelperBench;
let opened: (BlockImage | ImageDisk | Orphans)[];
let children: ChildProcess[];

beforeEach(() => {
  bench = new HelperBench();
  opened = [];
  children = [];
});
vi.setConfig({ testTimeout: 30_000 });
afterEach(async () => {
  for (const each of opened.reverse()) await each[Symbol.asyncDispose]();
  for (const child of children) child.kill('SIGKILL');
  await bench[Symbol.asyncDispose]();
});

const folderOf = (path: string, device = DEVICE) => join(bench.helpers, deviceFolder(device, [path, 'qcow2', false]));

interface LeftOptions {
  readonly device?: string;
  readonly more?: string[];
}

/** The helper of a process that is gone. */
async function left(path: string, { device, more = [] }: LeftOptions = {}): Promise<number> {
  const folder = folderOf(path, device);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const [socket, monitor, pidFile] = ['nbd', 'monitor', 'pid'].map((name) => join(folder, name));
  await using chain = await ImageChain.open(path, 'qcow2', {});
  const args = storageDaemonArguments({ path, format: 'qcow2', readOnly: false, socket, monitor, pidFile }, chain);
  const stdio: StdioOptions = ['ignore', 'ignore', 'ignore', ...chain.files.map(({ fd }) => fd)];
  const child = spawn('qemu-storage-daemon', [...args, ...more], { detached: true, stdio });
  children.push(child);
  await vi.waitFor(() => expect(existsSync(pidFile)).toBe(true), { timeout: 10_000, interval: 5 });
  return child.pid ?? 0;
}

async function open(path: string, options: object = {}) {
  const image = await openFormatImage(bench.options(path, { device: DEVICE, adopt: true, ...options }));
  const disk = nbdDiskOf(image);
  opened.push(image, disk);
  return disk;
}

function orphansWhere(isGone: OrphansOptions['isGone'], times: { stopMs?: number; lookMs?: number } = {}): Orphans {
  const onFailure = ({ path, error }: { path: string; error: Error }) => expect.fail(`${path}: ${error.message}`);
  const orphans = new Orphans({ directory: bench.helpers, isGone, onFailure, ...times });
  opened.push(orphans);
  return orphans;
}

function monitorOf(path: string): Promise<QmpClient> {
  return QmpClient.connect(join(folderOf(path), 'monitor'));
}

const kinds = () => bench.events.map(({ kind }) => kind);

needs('qemu-img', 'qemu-storage-daemon', 'Linux').describe('a helper of a process that is gone', () => {
  it('goes on with its image, and ends with it', async () => {
    const path = await bench.qcow2();
    const pid = await left(path);
    const disk = await open(path);
    await disk.write(0, BLOCK);
    expect(await disk.read(0, BLOCK.length)).toEqual(BLOCK);
    expect([processesWith(path), bench.events]).toEqual([[pid], [{ kind: 'adopted', pid }]]);
    for (const each of opened.reverse()) await each[Symbol.asyncDispose]();
    bench.expectNothingLeft();
    expect((await runTool('qemu-img', ['check', path])).code).toBe(0);
  });

  it('that is killed after it was taken over is followed by another one, and nothing is lost', async () => {
    const path = await bench.qcow2();
    const pid = await left(path);
    const disk = await open(path);
    for (let i = 0; i < 50; i++) await disk.write(i * BLOCK.length, BLOCK);
    process.kill(pid, 'SIGKILL');
    expect(await disk.read(49 * BLOCK.length, BLOCK.length)).toEqual(BLOCK);
    expect(kinds().slice(0, 2)).toEqual(['adopted', 'ended']);
    expect(processesWith(path)).not.toContain(pid);
  });

  it('whose export is gone, because its next process was killed while it took over, gets one again', async () => {
    const path = await bench.qcow2();
    const pid = await left(path);
    const monitor = await monitorOf(path);
    await monitor.execute('block-export-del', { id: 'disk', mode: 'hard' });
    monitor.close();
    const disk = await open(path);
    expect(await disk.read(0, 512)).toEqual(new Uint8Array(512));
    expect(processesWith(path)).toEqual([pid]);
  });

  it.each<[string, (path: string, pid: number) => unknown, RegExp]>([
    ['hangs', (_, pid) => process.kill(pid, 'SIGSTOP'), /does not answer within 0.5 seconds/],
    ['has another at its monitor', (path) => monitorOf(path), /does not answer within 0.5 seconds/],
  ])('that %s is killed and followed by another one', async (_, spoil, reason) => {
    const path = await bench.qcow2();
    const pid = await left(path);
    await spoil(path, pid);
    const disk = await open(path, { times: { answerMs: 500 } });
    expect(await disk.read(0, 512)).toEqual(new Uint8Array(512));
    expect(bench.events[0]).toEqual({ kind: 'unusable', pid, reason: expect.stringMatching(reason) });
    expect(processesWith(path)).not.toContain(pid);
  });

  it.each<[string, LeftOptions, object]>([
    ['was started in another way', { more: ['--object', 'iothread,id=other'] }, {}],
    ['is for a disk that is new', {}, { adopt: false }],
  ])('that %s is asked to end first', async (_, how, options) => {
    const path = await bench.qcow2();
    const pid = await left(path, how);
    const disk = await open(path, options);
    expect(await disk.read(0, 512)).toEqual(new Uint8Array(512));
    expect(processesWith(path)).not.toContain(pid);
    expect(kinds()).toEqual([]);
  });

  it('is not what has its number by now', async () => {
    const path = await bench.qcow2();
    const bystander = spawn('sleep', ['600'], { stdio: 'ignore' });
    children.push(bystander);
    mkdirSync(folderOf(path), { recursive: true, mode: 0o700 });
    writeFileSync(join(folderOf(path), 'pid'), `${bystander.pid}\n`);
    const disk = await open(path);
    expect(await disk.read(0, 512)).toEqual(new Uint8Array(512));
    expect([bystander.exitCode, bystander.signalCode]).toEqual([null, null]);
  });

  it('goes on with an image that was moved away, and not where another one has its name', async () => {
    const path = await bench.qcow2();
    const pid = await left(path);
    renameSync(path, `${path}.away`);
    const disk = await open(path);
    expect(await disk.read(0, 512)).toEqual(new Uint8Array(512));
    for (const each of opened.splice(0).reverse()) await each[Symbol.asyncDispose]();
    expect(processesWith(path)).toEqual([]);
    renameSync(`${path}.away`, path);
    const second = await left(path);
    renameSync(path, `${path}.away`);
    renameSync(await bench.qcow2(), path);
    await expect(open(path)).rejects.toMatchObject({
      code: 'ERR_IMAGE',
      message: expect.stringMatching(new RegExp(`not the file .* put that one back, or detach .*${second}`)),
    });
    expect(processesWith(path)).toEqual([second]);
    renameSync(`${path}.away`, path);
    await open(path);
    expect(processesWith(path)).toEqual([second]);
    expect(second).not.toBe(pid);
  });

  it('ends when its disk is gone, with what it holds written back, and no other does', async () => {
    const [path, other, used] = [await bench.qcow2(), await bench.qcow2(), await bench.qcow2()];
    const orphan = await left(path);
    const wanted = await left(other, { device: 'qdisk-6-51712' });
    await open(used, { device: 'qdisk-7-51712' });
    orphansWhere(async (device) => device !== 'qdisk-6-51712').start();
    await vi.waitFor(() => expect(readdirSync(bench.helpers)).toHaveLength(2), 10_000);
    expect(processesWith(bench.helpers)).toHaveLength(2);
    expect([processesWith(path), processesWith(other)]).toEqual([[], [wanted]]);
    expect(orphan).not.toBe(wanted);
    expect((await runTool('qemu-img', ['check', path])).code).toBe(0);
  });

  it('ends when its disk goes later, and stays while nobody can tell', async () => {
    const path = await bench.qcow2();
    const pid = await left(path);
    const alive: number[][] = [];
    const answers = [false, new Error('xenstored is away'), true];
    const isGone = async () => {
      alive.push(processesWith(path));
      const answer = answers.shift() ?? true;
      if (answer instanceof Error) throw answer;
      return answer;
    };
    orphansWhere(isGone, { lookMs: 1 }).start();
    await vi.waitFor(() => expect(readdirSync(bench.helpers)).toEqual([]), 10_000);
    expect([alive, processesWith(path)]).toEqual([[[pid], [pid], [pid]], []]);
  });
});

/** Starts of the program so far, once `recordStarts` was called. */
const starts = () => readFileSync(bench.path('starts'), 'utf8').split('\n').length - 1;
function recordStarts(): void {
  writeFileSync(bench.path('starts'), '');
  bench.fake(`echo >> ${bench.path('starts')}; exec $REAL "$@"`);
}

needs('qemu-img', 'qemu-storage-daemon', 'Linux').describe('an image that somebody has, for another disk,', () => {
  const NEW = { device: 'qdisk-6-51712', adopt: false };

  it('is let go of by the helper of a disk that is gone', async () => {
    const path = await bench.qcow2();
    const pid = await left(path);
    const orphans = orphansWhere(async () => true);
    const disk = await open(path, { ...NEW, release: (image: string) => orphans.release(image) });
    await disk.write(0, BLOCK);
    expect(processesWith(path)).not.toContain(pid);
    expect(readdirSync(bench.helpers)).toHaveLength(1);
  });

  it('is let go of by the helper of a disk whose end is noticed only while it is asked for', async () => {
    const path = await bench.qcow2();
    const pid = await left(path);
    // So that its end takes a while.
    process.kill(pid, 'SIGSTOP');
    let gone = false;
    const orphans = orphansWhere(async () => gone, { lookMs: 1, stopMs: 500 });
    orphans.start();
    const release = async (image: string) => {
      const released = await orphans.release(image);
      if (gone) return released;
      gone = true;
      // By now its folder is this process's, which ends the helper.
      const isUsed = () => HelperDirectory.isUsed(bench.helpers, basename(folderOf(path)));
      await vi.waitFor(() => expect(isUsed()).toBe(true), { timeout: 10_000, interval: 1 });
      return released;
    };
    const disk = await open(path, { ...NEW, release });
    expect(await disk.read(0, 512)).toEqual(new Uint8Array(512));
    expect(processesWith(path)).not.toContain(pid);
  });

  it('is let go of by a helper that hangs, which is killed', async () => {
    const path = await bench.qcow2();
    process.kill(await left(path), 'SIGSTOP');
    const orphans = orphansWhere(async () => true, { stopMs: 50 });
    const disks = await Promise.all([
      open(path, { ...NEW, release: (image: string) => orphans.release(image) }),
      orphans.release(path),
      orphans.release(path),
    ]);
    expect(await disks[0].read(0, 512)).toEqual(new Uint8Array(512));
  });

  it('is kept by the helper of a disk that may come back, and refused after a while', async () => {
    const path = await bench.qcow2();
    const pid = await left(path);
    const orphans = orphansWhere(async () => false);
    const refused = open(path, {
      ...NEW,
      release: (image: string) => orphans.release(image),
      times: { lockedMs: 200 },
    });
    await expect(refused).rejects.toMatchObject({ code: 'ERR_IMAGE', message: expect.stringContaining('lock') });
    expect(processesWith(path)).toEqual([pid]);
  });

  it('is tried again while a process has it that is about to end', async () => {
    const path = await bench.qcow2();
    const pid = await left(path);
    recordStarts();
    const opening = open(path, { ...NEW, times: { lockedMs: 30_000 } });
    await vi.waitFor(() => expect(starts()).toBeGreaterThan(1), 10_000);
    process.kill(pid, 'SIGKILL');
    expect(await (await opening).read(0, 512)).toEqual(new Uint8Array(512));
  });

  it('is tried again for a moment while a disk of this process has it, which may be about to end', async () => {
    const path = await bench.qcow2();
    const first = await openFormatImage(bench.options(path, { device: DEVICE, adopt: true }));
    const opening = open(path, NEW);
    await vi.waitFor(() => expect(processesWith(path)).toHaveLength(2), { timeout: 10_000, interval: 1 });
    await first.close();
    expect(await (await opening).read(0, 512)).toEqual(new Uint8Array(512));
    await expect(open(path, { ...NEW, device: 'qdisk-7-51712' })).rejects.toMatchObject({ code: 'ERR_IMAGE' });
  });

  it('is tried again when a disk of this process has let go of it, however long that takes', async () => {
    const path = await bench.qcow2();
    await open(path, { times: { stopMs: 500 } });
    const [pid] = processesWith(path);
    process.kill(pid, 'SIGSTOP');
    const closed = opened.splice(0).reverse();
    const closing = (async () => {
      for (const each of closed) await each[Symbol.asyncDispose]();
    })();
    const disk = await open(path, { ...NEW, times: { lockedMs: 0 } });
    expect(await disk.read(0, 512)).toEqual(new Uint8Array(512));
    await closing;
  });

  it('is tried no more when the disk is not wanted any more', async () => {
    const path = await bench.qcow2();
    const pid = await left(path);
    recordStarts();
    const abort = new AbortController();
    const opening = open(path, { ...NEW, signal: abort.signal, times: { lockedMs: 30_000 } });
    await vi.waitFor(() => expect(starts()).toBeGreaterThan(0), 10_000);
    abort.abort(new Error('removed'));
    await expect(opening).rejects.toThrow();
    expect(processesWith(path)).toEqual([pid]);
  });
});
