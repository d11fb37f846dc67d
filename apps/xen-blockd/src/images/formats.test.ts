import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestDaemon } from '../testing/daemon.js';
import type { EmbeddedHost } from '../testing/host.js';
import { runTool } from '../tools.js';

const MIB = 1024 * 1024;

let daemon: TestDaemon;
let host: EmbeddedHost;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  host = daemon.host;
});
afterEach(() => daemon[Symbol.asyncDispose]());

/** Kills the one child of this process that has the image in its command line. */
function killChildThatServes(path: string): void {
  const threads = readdirSync('/proc/self/task');
  const children = threads.flatMap(
    (thread) => readFileSync(`/proc/self/task/${thread}/children`, 'utf8').match(/\d+/g) ?? [],
  );
  const [child] = children.filter((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(path));
  process.kill(Number(child), 'SIGKILL');
}

describe('the daemon', () => {
  it('opens nothing outside of image-directories', async () => {
    const ended = daemon.start({ 'image-directories': ['/srv/images'] });
    await daemon.says('ready');
    const { domid } = await daemon.attach();
    const error = `/local/domain/0/error/backend/qdisk/${domid}/51712/error`;
    await expect.poll(() => host.store.tryRead(error)).toContain('image-directories (/srv/images)');
    expect(daemon.lines.find(({ level }) => level === 50)).toMatchObject({ device: `qdisk-${domid}-51712` });
    daemon.stop();
    expect(await ended).toBe(0);
  });

  it('refuses a format that it cannot serve, and a missing image, and goes on', async () => {
    const ended = daemon.start();
    await daemon.says('ready');
    for (const [domid, params, text] of [
      [7, 'floppy:/srv/x', 'floppy are not served; the formats are raw (aio), qcow,'],
      [8, `aio:${host.path('none')}`, 'none'],
    ] as const) {
      await host.host.createDomain({ name: `guest${domid}`, domid });
      await host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: '/x' });
      const backend = `/local/domain/0/backend/qdisk/${domid}/51712`;
      await host.store.transaction(async (tx) => {
        await tx.write(`${backend}/params`, params);
        await tx.write(`${backend}/state`, 1);
      });
      const error = `/local/domain/0/error/backend/qdisk/${domid}/51712/error`;
      await expect.poll(() => host.store.tryRead(error)).toContain(text);
    }
    const { data, domid } = await daemon.attach();
    const guest = await host.connectGuest(domid);
    expect(Buffer.from(await guest.read(0, 512)).equals(data.subarray(0, 512))).toBe(true);
    await host.host.toolstack.detachDisk(domid, 'xvda');
    daemon.stop();
    expect(await ended).toBe(0);
  });

  const qemu = needs('qemu-img', 'qemu-storage-daemon');
  qemu.it.each([0, 1])('serves a qcow2 image with %s threads, whatever happens to its server', async (threads) => {
    const ended = daemon.start({ threads });
    await daemon.says('ready');
    const path = host.path('disk.qcow2');
    await runTool('qemu-img', ['create', '-f', 'qcow2', path, '4M']);
    const { domid } = await host.host.createDomain({ name: 'guest' });
    await host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: path, format: 'qcow2' });
    const guest = await host.connectGuest(domid);
    const data = randomBytes(MIB);
    await guest.write(0, data);
    await guest.flush();
    killChildThatServes(path);
    expect(Buffer.from(await guest.read(0, MIB)).equals(data)).toBe(true);
    expect(daemon.lines.some(({ msg }) => msg === 'qemu-storage-daemon ended')).toBe(true);
    await host.host.toolstack.detachDisk(domid, 'xvda');
    daemon.stop();
    expect(await ended).toBe(0);
    const compared = await runTool('qemu-img', ['convert', '-O', 'raw', path, host.path('raw')]);
    expect(compared).toMatchObject({ code: 0 });
    expect(readFileSync(host.path('raw')).subarray(0, MIB).equals(data)).toBe(true);
  });

  needs('nbdcopy').it('exports a vbd3 disk for the firmware of an HVM guest', async () => {
    const ended = daemon.start({ types: ['vbd3'], 'nbd-directory': host.path('nbd') });
    await daemon.says('ready');
    const data = randomBytes(3 * MIB + 512);
    writeFileSync(host.path('image'), data);
    const { domid } = await host.host.createDomain({ name: 'guest' });
    await host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: host.path('image'), backendType: 'tap' });
    const uri = `nbd+unix:///?socket=${host.path('nbd')}/vbd3-${domid}-51712`;
    expect(await runTool('nbdcopy', [uri, host.path('copy')])).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(host.path('copy')).equals(data)).toBe(true);
    data.reverse();
    writeFileSync(host.path('copy'), data);
    expect(await runTool('nbdcopy', ['--flush', host.path('copy'), uri])).toMatchObject({ code: 0, stderr: '' });
    const guest = await host.connectGuest(domid);
    expect(Buffer.from(await guest.read(MIB, MIB)).equals(data.subarray(MIB, 2 * MIB))).toBe(true);
    await host.host.toolstack.detachDisk(domid, 'xvda');
    await expect.poll(() => readdirSync(host.path('nbd'))).toEqual([]);
    daemon.stop();
    expect(await ended).toBe(0);
  });
});
