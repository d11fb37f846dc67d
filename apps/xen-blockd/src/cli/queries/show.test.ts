import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DiskReport } from '../../status/disks/device-status.js';
import { TestDaemon } from '../../testing/daemon.js';
import { runBlockd } from '../../testing/process.js';

let daemon: TestDaemon;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  daemon.start();
  await daemon.says('ready');
});
afterEach(() => daemon[Symbol.asyncDispose]());

const blockd = (...args: string[]) => runBlockd(...args, '--socket', daemon.host.path('control'));

/** The values of the groups of `show`, by their names. */
async function shown(disk: string): Promise<Record<string, string>> {
  const { code, stdout } = await blockd('show', disk);
  expect(code).toBe(0);
  const lines = [...stdout.matchAll(/^ {2}(\S[^\n]*?) {2,}(\S.*)$/gm)];
  return Object.fromEntries(lines.map(([, name, value]) => [name, value]));
}

describe('show', () => {
  it('tells everything about a disk that is served', async () => {
    const { domid } = await daemon.attach('web1');
    const guest = await daemon.host.connectGuest(domid);
    await guest.write(0, randomBytes(8192));
    await guest.read(0, 4096);
    const values = await shown('web1:xvda');
    expect(values).toMatchObject({
      name: 'web1',
      domid: `${domid}`,
      vdev: 'xvda',
      type: 'qdisk, disk',
      'backend path': `/local/domain/0/backend/qdisk/${domid}/51712`,
      state: 'connected',
      since: expect.stringMatching(/^\d{4}-.*Z, for \d+ s$/),
      'on error': 'report',
      image: daemon.host.path('web1'),
      format: 'raw',
      size: '2.0 MiB (2097152 bytes)',
      sector: '512 bytes',
      mode: 'read and write',
      identity: expect.stringMatching(/^file /),
      'used by': 'this disk only',
      features: expect.stringContaining('indirect requests of 256 segments'),
      ABI: 'x86_64',
      queues: '1',
      ring: expect.stringMatching(/^\d+ pages? each$/),
      'of the disk': 'none',
      'in flight': '0',
      'storage errors': 'none',
      read: expect.stringMatching(/^1 +4.0 KiB .* <\d+(\.\d)? [mu]?s +<\d+(\.\d)? [mu]?s$/),
      write: expect.stringMatching(/^1 +8.0 KiB /),
    });
    expect(values).not.toHaveProperty('why');
    expect(values).not.toHaveProperty('remedy');
  });

  it('tells that a disk waits for its frontend', async () => {
    await daemon.attach('web1');
    const values = await shown(daemon.host.path('web1'));
    expect(values).toMatchObject({ state: 'waiting for its frontend', ABI: 'no frontend', 'in flight': '0' });
    expect(values).not.toHaveProperty('queues');
  });

  it('prints JSON of one object', async () => {
    const { domid } = await daemon.attach('web1');
    const { code, stdout } = await blockd('show', `${domid}:xvda`, '--json');
    expect(code).toBe(0);
    const report: DiskReport = JSON.parse(stdout);
    expect(report).toMatchObject({ guest: 'web1', connected: false, format: 'raw', queues: 0, ringPages: 0 });
    expect(Date.parse(report.since ?? '')).not.toBeNaN();
  });

  it('has what the disk did in the last minutes, and how long it was looked at', { timeout: 60_000 }, async () => {
    const { domid } = await daemon.attach('web1');
    const guest = await daemon.host.connectGuest(domid);
    const averages = async () => {
      const { stdout } = await blockd('show', 'web1:xvda', '--json');
      return (JSON.parse(stdout) as DiskReport).averages;
    };
    expect(await averages()).toBeDefined();
    const known = async () => {
      await guest.read(0, 4096);
      return (await averages())?.minute;
    };
    await expect
      .poll(known, { timeout: 40_000, interval: 500 })
      .toMatchObject({ readIops: expect.toSatisfy((n) => n > 0) });
    const { fiveMinutes } = (await averages()) ?? {};
    expect(fiveMinutes).toMatchObject({ writeIops: 0, writeBandwidth: 0 });
    expect(fiveMinutes?.seconds).toBeLessThan(60);
    const values = await shown('web1:xvda');
    expect(values['last minute']).toMatch(
      /^[\d.]+ IOPS \(read [\d.]+, write 0\), read 0\.\d MB\/s, write 0\.0 MB\/s; of \d+ s$/,
    );
    expect(values['last 5 minutes']).toMatch(/; of \d+ s$/);
  });

  it('of a name that fits two disks says which they are', async () => {
    const { domid } = await daemon.attach('image');
    const other = await daemon.host.host.createDomain({ name: 'other' });
    const shared = { vdev: 'xvda', target: daemon.host.path('image'), mode: 'r' } as const;
    await daemon.host.host.toolstack.attachDisk(other.domid, shared);
    await expect.poll(async () => (await blockd('list')).stdout).toContain(`qdisk-${other.domid}-51712`);
    const { code, stdout, stderr } = await blockd('show', daemon.host.path('image'));
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain(`is more than one disk; name one of qdisk-${domid}-51712, qdisk-${other.domid}-51712`);
  });

  it('of a name that fits none says what disks there are', async () => {
    await daemon.attach('web1');
    const { code, stderr } = await blockd('show', 'web2:xvda');
    expect(code).toBe(1);
    expect(stderr).toMatch(/there is no disk web2:xvda; the disks are qdisk-\d+-51712\n$/);
    expect(await blockd('show')).toMatchObject({ code: 2, stdout: '' });
  });
});
