import { once } from 'node:events';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { packageRoot } from '../package-root.js';
import type { DiskDocument, WholeDiskDocument } from '../status/page/documents.js';
import { PageServer } from '../status/page/page-server.js';
import type { RecentError } from '../status/page/recent-errors.js';
import { TestDaemon } from '../testing/daemon.js';
import type { EmbeddedHost } from '../testing/host.js';

vi.setConfig({ testTimeout: 60_000 });

const SOON = { timeout: 20_000 };
const HOSTILE = '</script><img src=x onerror=alert(1)>\u202e"\'&';

interface Answer {
  readonly status: number | undefined;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

interface DisksAnswer {
  readonly version: number;
  readonly daemon: { readonly starting: boolean; readonly xenstoreConnected: boolean; readonly instance: string };
  readonly errors: readonly RecentError[];
  readonly disks: readonly DiskDocument[];
}

let daemon: TestDaemon;
let host: EmbeddedHost;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  host = daemon.host;
});
afterEach(() => daemon[Symbol.asyncDispose]());

const start = async () => {
  void daemon.start({ page: host.path('page') });
  await daemon.says('ready');
};

function ask(path: string, { method = 'GET', hostHeader = 'localhost' } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = {
      socketPath: host.path('page'),
      path,
      method,
      headers: { host: hostHeader },
      agent: false as const,
    };
    const asked = request(options, async (response) => {
      resolve({ status: response.statusCode, headers: response.headers, body: await text(response) });
    });
    asked.on('error', reject).end();
  });
}

const disks = async () => JSON.parse((await ask('/api/disks')).body) as DisksAnswer;
const disk = async (name: string) =>
  (JSON.parse((await ask(`/api/disks/${name}`)).body) as { disk: WholeDiskDocument }).disk;

describe('the page', () => {
  it('is nowhere unless it is asked for', async () => {
    void daemon.start();
    await daemon.says('ready');
    expect(existsSync(host.path('page'))).toBe(false);
  });

  it('tells of a disk, its histogram and its keys', async () => {
    await start();
    expect(await disks()).toMatchObject({
      version: 1,
      disks: [],
      daemon: { starting: false, xenstoreConnected: true },
    });
    const { domid } = await daemon.attach('web1');
    const guest = await host.connectGuest(domid);
    for (let i = 0; i < 20; i++) await guest.read(0, 4096);
    const name = `qdisk-${domid}-51712`;
    await expect
      .poll(async () => (await disks()).disks[0], SOON)
      .toMatchObject({
        device: name,
        guest: 'web1',
        vdev: 'xvda',
        state: 'connected',
        image: host.path('web1'),
        size: 2 << 20,
        why: null,
        remedy: null,
      });
    await expect.poll(async () => (await disk(name)).operations.read?.operations, SOON).toBe(20);
    const { operations, keys, buckets } = await disk(name);
    expect(operations.read?.histogram).toHaveLength(buckets);
    expect(operations.read?.histogram.reduce((sum, count) => sum + count)).toBe(20);
    expect(keys.problem).toBeNull();
    const [own, frontend] = keys.halves;
    expect(own).toMatchObject({ path: `/local/domain/0/backend/qdisk/${domid}/51712`, cut: false });
    expect(own.keys).toContainEqual(['state', '4']);
    expect(frontend.keys).toContainEqual(['protocol', 'x86_64-abi']);
  });

  it('answers only for this machine, only GET and HEAD, and only what it has', async () => {
    await start();
    for (const own of ['localhost', 'localhost:8080', '127.0.0.1:9106', '[::1]:9106', 'LocalHost'])
      expect([own, (await ask('/', { hostHeader: own })).status]).toEqual([own, 200]);
    for (const other of ['evil.example', 'localhost.evil.example', '10.0.0.1', '[::2]', 'localhost:99999999'])
      expect([other, (await ask('/api/disks', { hostHeader: other })).status]).toEqual([other, 421]);
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'])
      expect([method, (await ask('/api/disks', { method })).status]).toEqual([method, 405]);
    const head = await ask('/api/disks', { method: 'HEAD' });
    expect([head.status, head.body]).toEqual([200, '']);
    const paths = [
      '/../package.json',
      '/%2e%2e/package.json',
      '/page/',
      '/api',
      '/api/disks/',
      '/api/disks/qdisk-9-1',
      '//',
      '/x?y',
    ];
    for (const path of paths) expect([path, (await ask(path)).status]).toEqual([path, 404]);
    const { headers } = await ask('/');
    expect(headers['content-security-policy']).toMatch(/^default-src 'none';/);
    expect(headers['content-security-policy']).not.toContain('unsafe');
  });

  it('is refused where other machines reach it, and is no longer there when the daemon has ended', async () => {
    const none = { disks: () => [], disk: () => undefined, sampled: () => [], started: () => true };
    const page = new PageServer({
      ...none,
      keys: async () => ({ halves: [], problem: null }),
      guestOf: () => undefined,
      xenstoreConnected: () => true,
    });
    await expect(page.listen('0.0.0.0:9106')).rejects.toMatchObject({
      code: 'ERR_SOCKET',
      message: expect.stringMatching(/0\.0\.0\.0:9106: other machines reach that.*expected .*localhost:PORT/),
    });
    await page[Symbol.asyncDispose]();
    await start();
    expect(statSync(host.path('page')).mode & 0o077).toBe(0);
    daemon.stop();
    await daemon.ended();
    await expect(ask('/')).rejects.toThrow();
  });

  it('has text of guests as text only, whatever it is', async () => {
    await start();
    const { domid } = await daemon.attach('web1');
    await host.store.write(`/local/domain/${domid}/name`, HOSTILE);
    const guest = await host.connectGuest(domid);
    await host.store.write(`/local/domain/${domid}/device/vbd/51712/note`, `<b>${'x'.repeat(1000)}`);
    for (let i = 0; i < 250; i++) await host.store.write(`/local/domain/${domid}/device/vbd/51712/z${i}`, 'x');
    await guest.read(0, 4096);
    const name = `qdisk-${domid}-51712`;
    await expect.poll(async () => (await disks()).disks[0]?.guest, SOON).toBe(HOSTILE.replace('\u202e', '\\u202e'));
    expect((await ask('/api/disks')).headers['content-type']).toMatch(/^application\/json/);
    const [, frontend] = (await disk(name)).keys.halves;
    expect(frontend.cut).toBe(true);
    expect(frontend.keys).toHaveLength(200);
    const note = frontend.keys.find(([key]) => key === 'note')?.[1];
    expect(note).toMatch(/^<b>x+…$/);
    expect(note?.length).toBeLessThan(310);
  });

  it('tells of what went wrong, also of lines that the log leaves out, and of a disk that comes and goes', async () => {
    await start();
    const { domid } = await daemon.attach('web1');
    const name = `qdisk-${domid}-51712`;
    await expect.poll(async () => (await disks()).disks.length, SOON).toBe(1);
    await host.host.toolstack.detachDisk(domid, 'xvda', { force: true });
    await expect.poll(async () => (await disks()).disks, SOON).toEqual([]);
    expect((await ask(`/api/disks/${name}`)).status).toBe(404);
    const away = host.path('away');
    await host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: away }).catch(() => {});
    await expect
      .poll(async () => (await disks()).errors[0], SOON)
      .toMatchObject({
        about: name,
        level: 'error',
        message: expect.stringContaining(away),
      });
  });

  it('costs no more for many who ask, and outlives those who are slow, rude, or gone', async () => {
    await start();
    const { domid } = await daemon.attach('web1');
    const guest = await host.connectGuest(domid);
    const slow = Array.from({ length: 20 }, () => connect(host.path('page')));
    for (const socket of slow) socket.on('error', () => {}).write('GET /api/disks HTTP/1.1\r\nHost: loc');
    const rude = connect(host.path('page')).on('error', () => {});
    rude.write(`GET / HTTP/1.1\r\nHost: localhost\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`);
    expect(await text(rude)).toMatch(/^HTTP\/1.1 431 /);
    const gone = connect(host.path('page')).on('error', () => {});
    gone.write('GET /api/disks HTTP/1.1\r\nHost: localhost\r\n\r\n');
    gone.destroy();
    for (let i = 0; i < 10; i++) {
      const answers = await Promise.all(Array.from({ length: 5 }, () => ask('/api/disks')));
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
    }
    await guest.read(0, 4096);
    for (const socket of slow) {
      socket.destroy();
      if (!socket.closed) await once(socket, 'close');
    }
    expect((await ask('/')).status).toBe(200);
  });
});

it('has just the fields that docs/page.md tells of', async () => {
  await start();
  const { domid } = await daemon.attach();
  await host.connectGuest(domid);
  const documented = fieldsOf(readFileSync(new URL('../../docs/page.md', packageRoot), 'utf8'));
  const answer = JSON.parse((await ask('/api/disks')).body) as Record<string, unknown>;
  const [disk] = answer.disks as [object];
  const whole = JSON.parse((await ask(`/api/disks/qdisk-${domid}-51712`)).body) as { disk: object };
  expect({
    'GET /api/disks': Object.keys(answer).sort(),
    'A disk': Object.keys(disk).sort(),
    'GET /api/disks/qdisk-5-51712': Object.keys(whole.disk)
      .filter((field) => !(field in disk))
      .sort(),
  }).toEqual(documented);
  expect(Object.keys(whole).sort()).toEqual(['disk', 'instance', 'version']);
});

/** What the first column of each table names, by what stands before it. */
function fieldsOf(page: string): Record<string, string[]> {
  const tables = page.matchAll(/^`?(GET \/api[^`\s]+|A disk)`?:[^|]*((?:^\|.*\n)+)/gm);
  return Object.fromEntries(
    Array.from(tables, ([, about, rows]) => {
      const first = (rows ?? '')
        .split('\n')
        .slice(2)
        .map((row) => row.split('|')[1] ?? '');
      return [about, Array.from(first.join().matchAll(/`(\w+)`/g), ([, field]) => field).sort()];
    }),
  );
}
