import { randomBytes } from 'node:crypto';
import { appendFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import type { XenstoreTransport } from '@xenpv/xen-sys';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { askDaemon } from '../status/control-socket.js';
import { TestHost } from '../testing/host.js';
import { runBlockd } from '../testing/process.js';
import { missingTools } from '../testing/tools.js';
import { runTool } from '../tools.js';
import type { Config } from './config.js';
import { runDaemon } from './process.js';

const MIB = 1024 * 1024;

let test: TestHost;
let lines: Record<string, unknown>[];

beforeEach(async () => {
  test = await TestHost.create();
  lines = [];
});
afterEach(() => test[Symbol.asyncDispose]());

const logger = () => pino({ level: 'debug', base: null }, { write: (line) => lines.push(JSON.parse(line)) });

/** The daemon in this process; a signal is only an event here. */
function start(config: Partial<Config> = {}): Promise<number> {
  const all = { types: ['qdisk'], 'log-level': 'debug', 'control-socket': test.path('control'), ...config } as Config;
  return runDaemon(all, test.host.provider(0), logger());
}

const ready = () => expect.poll(() => lines.some(({ msg }) => msg === 'ready')).toBe(true);
const stop = () => process.emit('SIGTERM', 'SIGTERM');

async function attach(name = 'image'): Promise<{ data: Buffer; domid: number }> {
  const data = randomBytes(2 * MIB);
  writeFileSync(test.path(name), data);
  const { domid } = await test.host.createDomain({ name });
  await test.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: test.path(name) });
  return { data, domid };
}

/** Kills the one child of this process that has the image in its command line. */
function killChildThatServes(path: string): void {
  const threads = readdirSync('/proc/self/task');
  const children = threads.flatMap(
    (thread) => readFileSync(`/proc/self/task/${thread}/children`, 'utf8').match(/\d+/g) ?? [],
  );
  const [child] = children.filter((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(path));
  process.kill(Number(child), 'SIGKILL');
}

/** A transport that ends as if xenstored had gone away, when the function that it adds to `breakers` is called. */
function breakable(transport: XenstoreTransport, breakers: (() => void)[]): XenstoreTransport {
  const start = transport.start.bind(transport);
  transport.start = (listener) => {
    start(listener);
    breakers.push(() => {
      void transport.close();
      listener.close(new Error('xenstored is gone'));
    });
  };
  return transport;
}

function get(socketPath: string, path: string): Promise<{ status: number | undefined; text: string }> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path }, (response) => {
      let text = '';
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode, text }));
    });
    asked.on('error', reject).end();
  });
}

describe('the daemon', () => {
  it('serves, answers list and stats, and counts for Prometheus', async () => {
    const metrics = test.path('metrics');
    const ended = start({ metrics });
    await ready();
    const { data, domid } = await attach();
    const guest = await test.connectGuest(domid);
    expect(Buffer.from(await guest.read(0, MIB)).equals(data.subarray(0, MIB))).toBe(true);

    const [device] = await askDaemon(test.path('control'), { command: 'list' });
    expect(device).toMatchObject({
      device: `qdisk-${domid}-51712`,
      vdev: 'xvda',
      image: test.path('image'),
      size: 2 * MIB,
      readOnly: false,
      connected: true,
      abi: 'x86_64',
      queues: 1,
      statistics: { read: { bytes: MIB } },
    });
    const listed = await runBlockd('list', '--socket', test.path('control'));
    expect(listed).toMatchObject({ code: 0, stderr: '' });
    expect(listed.stdout).toMatch(/qdisk-1-51712 +xvda +2\.0 MiB +rw +x86_64, 1 ring /);
    const stats = await runBlockd('stats', '--socket', test.path('control'), '--json');
    expect(JSON.parse(stats.stdout)).toMatchObject([{ statistics: { read: { bytes: MIB } } }]);

    const { status, text } = await get(metrics, '/metrics');
    expect(status).toBe(200);
    expect(text).toContain(
      `xen_blockd_bytes_total{device="qdisk-1-51712",domid="1",vdev="xvda",operation="read"} ${MIB}`,
    );
    expect((await get(metrics, '/')).status).toBe(404);
    await test.host.toolstack.detachDisk(domid, 'xvda');
    stop();
    expect(await ended).toBe(0);
  });

  it('leaves the disks connected when it ends, and the next one takes them over', async () => {
    const first = start();
    await ready();
    const { data, domid } = await attach();
    const guest = await test.connectGuest(domid);
    await guest.read(0, 4096);
    stop();
    expect(await first).toBe(0);
    const state = `/local/domain/0/backend/qdisk/${domid}/51712/state`;
    expect(await test.store.read(state)).toBe('4');
    const waiting = guest.read(MIB, MIB);
    lines = [];
    const second = start();
    expect(Buffer.from(await waiting).equals(data.subarray(MIB))).toBe(true);
    expect(lines.find(({ msg }) => msg === 'serving')).toMatchObject({ reattached: true });
    await test.host.toolstack.detachDisk(domid, 'xvda');
    stop();
    expect(await second).toBe(0);
  });

  it.each([0, 2])('with %s threads: tells a guest of an image that grew, when it is asked to look', async (threads) => {
    const ended = start({ threads });
    await ready();
    const { domid } = await attach();
    const sizes: number[] = [];
    const guest = await test.connectGuest(domid, { onResize: (size) => sizes.push(size) });
    appendFileSync(test.path('image'), Buffer.alloc(MIB));
    expect((await runBlockd('refresh', '--socket', test.path('control'))).code).toBe(0);
    await expect.poll(() => sizes).toEqual([3 * MIB]);
    expect(guest.size).toBe(3 * MIB);
    await test.host.toolstack.detachDisk(domid, 'xvda');
    stop();
    expect(await ended).toBe(0);
  });

  it('leaves the disks to a daemon that serves them already', async () => {
    const first = start();
    await ready();
    await expect(start()).rejects.toMatchObject({ code: 'ERR_SOCKET', message: expect.stringContaining('in use') });
    stop();
    expect(await first).toBe(0);
  });

  it('opens nothing outside of image-directories', async () => {
    const ended = start({ 'image-directories': ['/srv/images'] });
    await ready();
    const { domid } = await attach();
    const error = `/local/domain/0/error/backend/qdisk/${domid}/51712/error`;
    await expect.poll(() => test.store.tryRead(error)).toContain('image-directories (/srv/images)');
    expect(lines.find(({ level }) => level === 50)).toMatchObject({ device: `qdisk-${domid}-51712` });
    stop();
    expect(await ended).toBe(0);
  });

  it('refuses a format that it cannot serve, and a missing image, and goes on', async () => {
    const ended = start();
    await ready();
    for (const [domid, params, text] of [
      [7, 'floppy:/srv/x', 'floppy are not served; the formats are raw (aio), qcow,'],
      [8, `aio:${test.path('none')}`, 'none'],
    ] as const) {
      await test.host.createDomain({ name: `guest${domid}`, domid });
      await test.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: '/x' });
      const backend = `/local/domain/0/backend/qdisk/${domid}/51712`;
      await test.store.transaction(async (tx) => {
        await tx.write(`${backend}/params`, params);
        await tx.write(`${backend}/state`, 1);
      });
      const error = `/local/domain/0/error/backend/qdisk/${domid}/51712/error`;
      await expect.poll(() => test.store.tryRead(error)).toContain(text);
    }
    const { data, domid } = await attach();
    const guest = await test.connectGuest(domid);
    expect(Buffer.from(await guest.read(0, 512)).equals(data.subarray(0, 512))).toBe(true);
    await test.host.toolstack.detachDisk(domid, 'xvda');
    stop();
    expect(await ended).toBe(0);
  });

  const forFormats = missingTools('qemu-img', 'qemu-storage-daemon');
  const title = `serves a qcow2 image with %s threads, whatever happens to its server${forFormats}`;
  it.skipIf(forFormats).each([0, 1])(title, async (threads) => {
    const ended = start({ threads });
    await ready();
    const path = test.path('disk.qcow2');
    await runTool('qemu-img', ['create', '-f', 'qcow2', path, '4M']);
    const { domid } = await test.host.createDomain({ name: 'guest' });
    await test.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: path, format: 'qcow2' });
    const guest = await test.connectGuest(domid);
    const data = randomBytes(MIB);
    await guest.write(0, data);
    await guest.flush();
    killChildThatServes(path);
    expect(Buffer.from(await guest.read(0, MIB)).equals(data)).toBe(true);
    expect(lines.some(({ msg }) => msg === 'qemu-storage-daemon ended')).toBe(true);
    await test.host.toolstack.detachDisk(domid, 'xvda');
    stop();
    expect(await ended).toBe(0);
    const compared = await runTool('qemu-img', ['convert', '-O', 'raw', path, test.path('raw')]);
    expect(compared).toMatchObject({ code: 0 });
    expect(readFileSync(test.path('raw')).subarray(0, MIB).equals(data)).toBe(true);
  });

  const forNbd = missingTools('nbdcopy');
  it.skipIf(forNbd)(`exports a vbd3 disk for the firmware of an HVM guest${forNbd}`, async () => {
    const ended = start({ types: ['vbd3'], 'nbd-directory': test.path('nbd') });
    await ready();
    const data = randomBytes(3 * MIB + 512);
    writeFileSync(test.path('image'), data);
    const { domid } = await test.host.createDomain({ name: 'guest' });
    await test.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: test.path('image'), backendType: 'tap' });
    const uri = `nbd+unix:///?socket=${test.path('nbd')}/vbd3-${domid}-51712`;
    expect(await runTool('nbdcopy', [uri, test.path('copy')])).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(test.path('copy')).equals(data)).toBe(true);
    data.reverse();
    writeFileSync(test.path('copy'), data);
    expect(await runTool('nbdcopy', ['--flush', test.path('copy'), uri])).toMatchObject({ code: 0, stderr: '' });
    const guest = await test.connectGuest(domid);
    expect(Buffer.from(await guest.read(MIB, MIB)).equals(data.subarray(MIB, 2 * MIB))).toBe(true);
    await test.host.toolstack.detachDisk(domid, 'xvda');
    await expect.poll(() => readdirSync(test.path('nbd'))).toEqual([]);
    stop();
    expect(await ended).toBe(0);
  });

  it('goes on when xenstored comes back', async () => {
    const provider = test.host.provider(0);
    const breakers: (() => void)[] = [];
    const connect = provider.connectXenstore.bind(provider);
    provider.connectXenstore = async (options) => breakable(await connect(options), breakers);
    const config = { types: ['qdisk'], 'log-level': 'debug', 'control-socket': false } as Config;
    const ended = runDaemon(config, provider, logger());
    await ready();
    const before = await attach('before');
    const guest = await test.connectGuest(before.domid);
    breakers.pop()!();
    await expect.poll(() => lines.some(({ msg }) => msg === 'connected to xenstored again')).toBe(true);
    expect(Buffer.from(await guest.read(0, 512)).equals(before.data.subarray(0, 512))).toBe(true);
    const after = await attach('after');
    const another = await test.connectGuest(after.domid);
    expect(Buffer.from(await another.read(0, 512)).equals(after.data.subarray(0, 512))).toBe(true);
    for (const { domid } of [before, after]) await test.host.toolstack.detachDisk(domid, 'xvda');
    stop();
    expect(await ended).toBe(0);
  });

  it('can be stopped while xenstored is away', async () => {
    const ended = start({ 'control-socket': false });
    await ready();
    await test.host.close();
    await expect.poll(() => lines.some(({ msg }) => msg === 'lost the connection to xenstored')).toBe(true);
    stop();
    expect(await ended).toBe(0);
  });
});

describe('a machine without Xen', () => {
  const underXen = process.platform !== 'linux';

  it.skipIf(underXen)('is told apart: exit code 69 and what is missing', async () => {
    const env = { XENSTORED_PATH: '/nonexistent/xenstored' };
    const saved = process.env.XENSTORED_PATH;
    Object.assign(process.env, env);
    const run = await runBlockd('run');
    expect(run).toMatchObject({ code: 69, stdout: '' });
    expect(run.stderr).toMatch(/^xen-blockd: [^\n]+\n$/);
    const check = await runBlockd('check', '--json');
    expect(check.code).toBe(69);
    expect(JSON.parse(check.stdout).map(({ name }: { name: string }) => name)).toContain('native addon');
    if (saved === undefined) delete process.env.XENSTORED_PATH;
    else process.env.XENSTORED_PATH = saved;
  });

  it('a query finds no daemon', async () => {
    const outcome = await runBlockd('list', '--socket', test.path('none'));
    expect(outcome).toMatchObject({ code: 1, stdout: '' });
    expect(outcome.stderr).toContain('no daemon answers');
  });

  it('a wrong configuration has exit code 78', async () => {
    writeFileSync(test.path('config'), 'types = ["floppy"]\n');
    const outcome = await runBlockd('run', '--config', test.path('config'));
    expect(outcome.code).toBe(78);
    expect(outcome.stderr).toContain('types.0');
  });
});
