import { appendFileSync } from 'node:fs';
import { request } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { askDaemon } from '../control/ask-daemon.js';
import { TestDaemon } from '../testing/daemon.js';
import type { EmbeddedHost } from '../testing/host.js';
import { runBlockd } from '../testing/process.js';

const MIB = 1024 * 1024;

let daemon: TestDaemon;
let host: EmbeddedHost;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  host = daemon.host;
});
afterEach(() => daemon[Symbol.asyncDispose]());

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
    const metrics = host.path('metrics');
    const ended = daemon.start({ metrics });
    await daemon.says('ready');
    const { data, domid } = await daemon.attach();
    const guest = await host.connectGuest(domid);
    expect(Buffer.from(await guest.read(0, MIB)).equals(data.subarray(0, MIB))).toBe(true);

    const [device] = await askDaemon(host.path('control'), { command: 'x-query-disks' });
    expect(device).toMatchObject({
      device: `qdisk-${domid}-51712`,
      vdev: 'xvda',
      image: host.path('image'),
      size: 2 * MIB,
      readOnly: false,
      connected: true,
      abi: 'x86_64',
      queues: 1,
      statistics: { read: { bytes: MIB } },
    });
    const listed = await runBlockd('list', '--socket', host.path('control'));
    expect(listed).toMatchObject({ code: 0, stderr: '' });
    expect(listed.stdout).toMatch(/qdisk-1-51712 +image +xvda +2\.0 MiB +rw +x86_64, 1 ring /);
    const stats = await runBlockd('stats', '--socket', host.path('control'), '--json');
    expect(JSON.parse(stats.stdout)).toMatchObject([{ statistics: { read: { bytes: MIB } } }]);

    const { status, text } = await get(metrics, '/metrics');
    expect(status).toBe(200);
    expect(text).toContain(
      `xen_blockd_bytes_total{device="qdisk-1-51712",domid="1",vdev="xvda",operation="read"} ${MIB}`,
    );
    expect(text).toContain('xen_blockd_rings_overlooked_total{device="qdisk-1-51712",domid="1",vdev="xvda"} 0');
    for (const name of ['requests_waiting', 'buffer_bytes', 'requests_starved_total']) {
      expect(text).toContain(`xen_blockd_${name}{device="qdisk-1-51712",domid="1",vdev="xvda"} 0`);
    }
    expect((await get(metrics, '/')).status).toBe(404);
    await host.host.toolstack.detachDisk(domid, 'xvda');
    daemon.stop();
    expect(await ended).toBe(0);
  });

  it('leaves the disks connected when it ends, and the next one takes them over', async () => {
    const first = daemon.start();
    await daemon.says('ready');
    const { data, domid } = await daemon.attach();
    const guest = await host.connectGuest(domid);
    await guest.read(0, 4096);
    daemon.stop();
    expect(await first).toBe(0);
    const state = `/local/domain/0/backend/qdisk/${domid}/51712/state`;
    expect(await host.store.read(state)).toBe('4');
    const waiting = guest.read(MIB, MIB);
    const second = daemon.start();
    expect(Buffer.from(await waiting).equals(data.subarray(MIB))).toBe(true);
    expect(daemon.lines.find(({ msg }) => msg === 'serving')).toMatchObject({ adopted: true });
    await host.host.toolstack.detachDisk(domid, 'xvda');
    daemon.stop();
    expect(await second).toBe(0);
  });

  it.each([0, 2])('with %s threads: tells a guest of an image that grew, when it is asked to look', async (threads) => {
    const ended = daemon.start({ threads });
    await daemon.says('ready');
    const { domid } = await daemon.attach();
    const sizes: number[] = [];
    const guest = await host.connectGuest(domid, { onResize: (size) => sizes.push(size) });
    appendFileSync(host.path('image'), Buffer.alloc(MIB));
    expect((await runBlockd('refresh', '--socket', host.path('control'))).code).toBe(0);
    await expect.poll(() => sizes).toEqual([3 * MIB]);
    expect(guest.size).toBe(3 * MIB);
    await host.host.toolstack.detachDisk(domid, 'xvda');
    daemon.stop();
    expect(await ended).toBe(0);
  });

  it('leaves the disks to a daemon that serves them already', async () => {
    const first = daemon.start();
    await daemon.says('ready');
    await expect(daemon.start()).rejects.toMatchObject({
      code: 'ERR_SOCKET',
      message: expect.stringContaining('in use'),
    });
    daemon.stop();
    expect(await first).toBe(0);
  });
});
