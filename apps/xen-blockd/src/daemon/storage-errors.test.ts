import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Blkfront } from '@xenpv/blkfront';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { askDaemon } from '../control/ask-daemon.js';
import { TestDaemon } from '../testing/daemon.js';
import { runBlockd } from '../testing/process.js';
import { mounting, mountTmpfs } from '../testing/tmpfs.js';

const KIB = 1024;
const MIB = 1024 * KIB;

let daemon: TestDaemon;

beforeEach(async () => {
  daemon = await TestDaemon.create();
});
afterEach(() => daemon[Symbol.asyncDispose]());

async function metrics(): Promise<string> {
  const asked = request({ socketPath: daemon.host.path('metrics'), path: '/metrics' }).end();
  const [response] = await once(asked, 'response');
  return text(response);
}

/** A guest that is connected to a disk with this target. */
async function connect(target: string): Promise<{ guest: Blkfront; device: string }> {
  const { host } = daemon;
  const { domid } = await host.host.createDomain({ name: 'guest' });
  await host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target });
  return { guest: await host.connectGuest(domid), device: `qdisk-${domid}-51712` };
}

const line = (msg: string) => daemon.lines.find((found) => found.msg === msg);
const list = async () => (await askDaemon(daemon.host.path('control'), { command: 'x-query-disks' }))[0];
const blockd = (...args: string[]) => runBlockd(...args, '--socket', daemon.host.path('control'));

needs(...mounting).describe('a file system that gets full', () => {
  const data = randomBytes(4 * MIB);

  /** Every part of the disk is written, with a flush now and then. */
  async function fill(guest: Blkfront): Promise<void> {
    const parts = Array.from({ length: 64 }, (_, i) => i * 64 * KIB);
    await Promise.all(parts.map((at) => guest.write(at, data.subarray(at, at + 64 * KIB))));
    await guest.flush();
  }

  it.each([
    [0, 'auto'],
    [2, 'auto'],
    [1, 'threads'],
  ] as const)(
    'stops the disk, and when there is room the guest’s data is whole (%i threads, %s)',
    async (threads, engine) => {
      const { path, resize } = mountTmpfs(2 * MIB);
      const image = join(path, 'image');
      writeFileSync(image, '');
      truncateSync(image, 4 * MIB);
      const ended = daemon.start({
        threads,
        engine,
        'on-error': 'stop-on-enospc',
        metrics: daemon.host.path('metrics'),
      });
      await daemon.says('ready');
      const { guest, device } = await connect(image);
      let written = false;
      const filling = fill(guest).then(() => {
        written = true;
      });
      const advice = `stopped by a storage error; mend it, then: xen-blockd resume ${device}`;
      await daemon.says(advice);
      expect(line(advice)).toMatchObject({ level: 50, device, operation: 'write', errno: 'ENOSPC' });
      expect(line('storage error')).toMatchObject({ level: 50, device, operation: 'write', errno: 'ENOSPC' });
      expect(line('storage error')).toMatchObject({ offset: expect.any(Number), length: expect.any(Number), count: 1 });
      expect(await list()).toMatchObject({
        onError: 'stop-on-enospc',
        stopped: { errno: 'ENOSPC', operation: 'write' },
      });
      expect((await blockd('list')).stdout).toMatch(
        new RegExp(
          `^${device} is stopped since 2.*Z: ENOSPC on write of \\d+ bytes at \\d+; go on with xen-blockd resume`,
          'm',
        ),
      );
      const shown = (await blockd('show', device)).stdout;
      expect(shown).toMatch(/^ {2}state +stopped$/m);
      expect(shown).toMatch(/^ {2}why +ENOSPC on write of \d+ bytes at \d+$/m);
      expect(shown).toMatch(new RegExp(`^  remedy +mend that, then: xen-blockd resume ${device}$`, 'm'));
      expect(shown).toMatch(/^ {2}storage errors +ENOSPC [1-9]/m);
      expect(shown).toMatch(/^ {2}the last one +ENOSPC on write of \d+ bytes at \d+, \d{4}-.*Z, \d+ s ago$/m);
      // A pause waits for what is kept no longer than it is told to, and leaves the stop as it is.
      const paused = await blockd('pause', device, '--wait', '0');
      expect([paused.code, paused.stderr]).toEqual([
        1,
        expect.stringMatching(/has not answered [1-9]\d* requests yet/),
      ]);
      expect((await blockd('show', device)).stdout).toMatch(/^ {2}paused +too, since 2/m);
      expect((await blockd('unpause', device)).code).toBe(0);
      const labels = `device="${device}",domid="1",vdev="xvda"`;
      const exported = await metrics();
      expect(exported).toContain(`xen_blockd_stopped{${labels}} 1`);
      expect(exported).toMatch(
        new RegExp(`xen_blockd_storage_errors_total\\{${labels},operation="write",errno="ENOSPC"\\} [1-9]`),
      );
      expect(exported).toMatch(new RegExp(`xen_blockd_requests_kept\\{${labels}\\} [1-9]`));

      // Without room it stops again.
      expect(await blockd('resume', device)).toMatchObject({ code: 0, stderr: '' });
      await expect.poll(async () => (await list()).stopped).toBeDefined();
      expect(written).toBe(false);
      resize(8 * MIB);
      const resumed = await blockd('resume', `/local/domain/0/backend/${device.replaceAll('-', '/')}`);
      expect(resumed).toMatchObject({ code: 0, stdout: `${device} goes on\n`, stderr: '' });
      await filling;
      expect(Buffer.compare(await guest.read(0, data.length), data)).toBe(0);
      expect(await metrics()).toContain(`xen_blockd_stopped{${labels}} 0`);
      expect((await blockd('resume', image)).stdout).toBe(`${device} was not stopped\n`);
      await guest.close();
      daemon.stop();
      expect(await ended).toBe(0);
    },
  );

  it('is an error to the guest where that is wanted, told with its errno', async () => {
    const { path } = mountTmpfs(MIB);
    const image = join(path, 'image');
    writeFileSync(image, '');
    truncateSync(image, 4 * MIB);
    const ended = daemon.start({ threads: 0 });
    await daemon.says('ready');
    const { guest, device } = await connect(image);
    await expect(fill(guest)).rejects.toThrow();
    expect(line('storage error')).toMatchObject({ device, operation: 'write', errno: 'ENOSPC' });
    expect((await list()).stopped).toBeUndefined();
    // A disk that fails and fails does not fill the log.
    for (let i = 0; i < 100; i++) await guest.write(3 * MIB, data.subarray(0, MIB)).catch(() => {});
    expect(daemon.lines.filter(({ msg }) => msg === 'storage error').length).toBeLessThanOrEqual(5);
    await guest.close();
    daemon.stop();
    expect(await ended).toBe(0);
  });

  it('and a daemon that stops while a disk is stopped: the next one goes on by itself', async () => {
    const { path, resize } = mountTmpfs(2 * MIB);
    const image = join(path, 'image');
    writeFileSync(image, '');
    truncateSync(image, 4 * MIB);
    const journals = daemon.host.path('journal');
    mkdirSync(journals);
    const config = { threads: 1, 'on-error': 'stop', 'journal-directory': journals } as const;
    const first = daemon.start(config);
    await daemon.says('ready');
    const { guest } = await connect(image);
    const filling = fill(guest);
    await expect.poll(async () => (await list()).stopped).toBeDefined();
    daemon.stop();
    expect(await first).toBe(0);
    expect(line('stopped: its requests are left to the next process')).toBeDefined();
    resize(8 * MIB);
    const second = daemon.start(config);
    await filling;
    expect(Buffer.compare(await guest.read(0, data.length), data)).toBe(0);
    await guest.close();
    daemon.stop();
    expect(await second).toBe(0);
  }, 60_000);
});

describe('xen-blockd resume', () => {
  it('names the disks that there are, when it is given another', async () => {
    const ended = daemon.start();
    await daemon.says('ready');
    expect(await blockd('resume', 'qdisk-9-51712')).toMatchObject({
      code: 1,
      stderr: 'xen-blockd: the daemon answers: there is no disk qdisk-9-51712; there are no disks\n',
    });
    const { guest, device } = await connect(await image());
    for (const disk of ['qdisk-9-51712', '/local/domain/3/backend/qdisk/1/51712', '', 'qdisk', '../..']) {
      await expect(askDaemon(daemon.host.path('control'), { command: 'x-resume', args: { disk } })).rejects.toThrow(
        `there is no disk ${disk}; the disks are ${device}`,
      );
    }
    expect((await blockd('resume')).code).toBe(2);
    expect(JSON.parse((await blockd('resume', 'qdisk/1/51712', '--json')).stdout)).toMatchObject([
      { device, wasStopped: false },
    ]);
    await guest.close();
    daemon.stop();
    expect(await ended).toBe(0);
  }, 60_000);
});

async function image(): Promise<string> {
  const path = daemon.host.path('plain');
  writeFileSync(path, Buffer.alloc(MIB));
  return path;
}

needs('qemu-storage-daemon').describe('an NBD server', () => {
  async function start(): Promise<{ server: ChildProcess; target: string }> {
    const file = await image();
    const socket = daemon.host.path('nbd.sock');
    rmSync(socket, { force: true });
    const server = spawn('qemu-storage-daemon', [
      ...['--blockdev', `driver=file,node-name=disk,filename=${file}`],
      ...['--nbd-server', `addr.type=unix,addr.path=${socket},max-connections=0`],
      ...['--export', 'type=nbd,id=disk,node-name=disk,name=disk,writable=on'],
    ]);
    onTestFinished(() => void server.kill('SIGKILL'));
    await expect.poll(() => existsSync(socket)).toBe(true);
    return { server, target: `nbd+unix:///disk?socket=${socket}` };
  }

  it('that goes away and comes back is told of, and gets again what it had not flushed', async () => {
    const ended = daemon.start({ threads: 0 });
    await daemon.says('ready');
    const { server, target } = await start();
    const { guest } = await connect(target);
    const data = randomBytes(4096);
    await guest.write(0, data);
    server.kill('SIGKILL');
    await daemon.says('lost the NBD server');
    const path = daemon.host.path('nbd.sock');
    expect(line('lost the NBD server')).toMatchObject({ level: 50, path, export: 'disk' });
    const read = guest.read(0, 4096);
    await start();
    expect(Buffer.from(await read)).toEqual(data);
    const back = 'the NBD server is back';
    await daemon.says(back);
    expect(line(back)).toMatchObject({ level: 30, path, seconds: expect.any(Number), resent: 1 });
    await guest.flush();
    await guest.close();
    daemon.stop();
    expect(await ended).toBe(0);
  });

  it.each([0, 1])('that hangs is told of, again and again, and when it goes on (%i threads)', async (threads) => {
    const ended = daemon.start({ threads, 'stall-seconds': 1, metrics: daemon.host.path('metrics') });
    await daemon.says('ready');
    const { server, target } = await start();
    const { guest, device } = await connect(target);
    await guest.read(0, 4096);
    server.kill('SIGSTOP');
    const read = guest.read(0, 4096);
    const hangs = 'the storage hangs: its oldest request waits';
    const lines = () => daemon.lines.filter(({ msg }) => msg === hangs);
    await expect.poll(() => lines().length, { timeout: 10_000 }).toBe(2);
    expect(lines()[0]).toMatchObject({ level: 40, device, inFlight: 1, seconds: expect.any(Number) });
    expect((await list()).oldestRequestMs).toBeGreaterThan(1000);
    expect(await metrics()).toMatch(/xen_blockd_oldest_request_seconds\{device="qdisk-1-51712".*\} [1-9]/);
    server.kill('SIGCONT');
    await read;
    await daemon.says('the storage hangs no more');
    expect((await list()).oldestRequestMs).toBe(0);
    await guest.close();
    daemon.stop();
    expect(await ended).toBe(0);
  });
});
