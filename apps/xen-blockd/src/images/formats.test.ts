import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { needs } from '@xenpv/test-support';
import { IMAGE_FORMATS } from '@xenpv/xen-block';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Cleanup } from '../cleanup.js';
import { TestDaemon } from '../testing/daemon.js';
import type { EmbeddedHost } from '../testing/host.js';
import { processesWith } from '../testing/storage-helpers.js';
import { runTool } from '../tools.js';
import { driverOf } from './storage-daemon/arguments.js';
import { openFormatImage } from './storage-daemon/format-image.js';

const MIB = 1024 * 1024;

let daemon: TestDaemon;
let host: EmbeddedHost;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  host = daemon.host;
});
afterEach(() => daemon[Symbol.asyncDispose]());

/** Kills the one process that has the image in its command line. */
function killServerOf(path: string): void {
  const [pid, ...others] = processesWith(path);
  expect(others).toEqual([]);
  process.kill(pid, 'SIGKILL');
}

async function qcow2(name: string): Promise<string> {
  const path = host.path(name);
  await runTool('qemu-img', ['create', '-f', 'qcow2', path, '4M']);
  return path;
}

/** A guest with a disk that the toolstack has just made; its error node. */
async function attachFormat(path: string, format: 'qcow2' = 'qcow2'): Promise<{ domid: number; error: string }> {
  const { domid } = await host.host.createDomain({ name: 'guest' });
  await host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: path, format });
  return { domid, error: `/local/domain/0/error/backend/qdisk/${domid}/51712/error` };
}

/** An image whose qcow2 header has this version. */
function headerOfVersion(version: number): Buffer {
  const header = Buffer.alloc(MIB);
  header.write('QFI\xfb', 'latin1');
  header.writeUInt32BE(version, 4);
  return header;
}

/** An image that says of itself that it is corrupt. */
async function makeCorrupt(path: string): Promise<void> {
  await qcow2(basename(path));
  const content = readFileSync(path);
  // The incompatible features, of which the second bit is "corrupt".
  content.writeBigUInt64BE(2n, 72);
  writeFileSync(path, content);
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

  needs('qemu-img').it('tells a guest why its image, which names a file elsewhere, is refused', async () => {
    const ended = daemon.start({ 'image-directories': [host.directory] });
    await daemon.says('ready');
    const path = host.path('disk.qcow2');
    await runTool('qemu-img', ['create', '-u', '-f', 'qcow2', '-b', '/etc/passwd', '-F', 'raw', path, '4M']);
    const { error } = await attachFormat(path);
    await expect
      .poll(() => host.store.tryRead(error))
      .toContain(`${path}: its backing file /etc/passwd is not in one of image-directories (${host.directory})`);
    daemon.stop();
    expect(await ended).toBe(0);
  });

  it.each([0, 1])(
    'G5: of a disk whose guest connects again is not followed again, with %s threads',
    async (threads) => {
      await using outside = new Cleanup();
      const ended = daemon.start({ threads, 'image-directories': [host.directory] });
      await daemon.says('ready');
      const { data, domid } = await daemon.attach();
      const first = await host.connectGuest(domid);
      expect(Buffer.from(await first.read(0, 512)).equals(data.subarray(0, 512))).toBe(true);
      await first.close();
      const secret = mkdtempSync(join(tmpdir(), 'blockd-secret-'));
      outside.defer(() => rmSync(secret, { recursive: true }));
      writeFileSync(join(secret, 'file'), Buffer.alloc(2 * MIB, 'S'));
      rmSync(host.path('image'));
      symlinkSync(join(secret, 'file'), host.path('image'));
      const second = await host.connectGuest(domid);
      expect(Buffer.from(await second.read(0, 512)).equals(data.subarray(0, 512))).toBe(true);
      await second.write(512, data.subarray(0, 512));
      await second.flush();
      expect(readFileSync(join(secret, 'file')).equals(Buffer.alloc(2 * MIB, 'S'))).toBe(true);
      await host.host.toolstack.detachDisk(domid, 'xvda');
      daemon.stop();
      expect(await ended).toBe(0);
    },
  );

  it('CVE-2008-2004: takes a raw image for raw, though its guest wrote another format’s header into it', async () => {
    let ended = daemon.start();
    await daemon.says('ready');
    const { domid, data } = await daemon.attach();
    const first = await host.connectGuest(domid);
    await first.write(0, headerOfVersion(3).subarray(0, 4096));
    await first.close();
    daemon.stop();
    expect(await ended).toBe(0);
    ended = daemon.start();
    const second = await host.connectGuest(domid);
    expect(second.size).toBe(first.size);
    expect(Buffer.from(await second.read(0, 512)).toString('latin1', 0, 4)).toBe('QFI\xfb');
    expect(Buffer.from(await second.read(8192, 512)).equals(data.subarray(8192, 8704))).toBe(true);
    expect(processesWith(host.path('image'))).toEqual([]);
    await host.host.toolstack.detachDisk(domid, 'xvda');
    daemon.stop();
    expect(await ended).toBe(0);
  });

  it('refuses a format that it cannot serve, and a missing image, and goes on', async () => {
    const ended = daemon.start();
    await daemon.says('ready');
    for (const [domid, params, text] of [
      [7, 'floppy:/srv/x', 'floppy are not served; the formats are raw (aio), qcow2, qcow,'],
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
    const path = await qcow2('disk.qcow2');
    const { domid } = await attachFormat(path);
    const guest = await host.connectGuest(domid);
    const data = randomBytes(MIB);
    await guest.write(0, data);
    await guest.flush();
    killServerOf(path);
    expect(Buffer.from(await guest.read(0, MIB)).equals(data)).toBe(true);
    expect(daemon.lines.find(({ msg }) => msg === 'qemu-storage-daemon ended')).toMatchObject({
      level: 50,
      device: `qdisk-${domid}-51712`,
      path,
      reason: 'qemu-storage-daemon was killed by SIGKILL',
    });
    await daemon.says('qemu-storage-daemon runs again');
    await host.host.toolstack.detachDisk(domid, 'xvda');
    daemon.stop();
    expect(await ended).toBe(0);
    const compared = await runTool('qemu-img', ['convert', '-O', 'raw', path, host.path('raw')]);
    expect(compared).toMatchObject({ code: 0 });
    expect(readFileSync(host.path('raw')).subarray(0, MIB).equals(data)).toBe(true);
  });

  qemu.it.each(IMAGE_FORMATS)(
    'serves an image whose target says that it is %s: what its guest wrote is in it',
    async (format) => {
      const ended = daemon.start();
      await daemon.says('ready');
      const path = host.path(`disk.${format}`);
      const driver = driverOf(format);
      // A size that is one of whole cylinders too, for vpc, which rounds others up.
      const size = 34 * 4 * 17 * 512;
      expect(await runTool('qemu-img', ['create', '-f', driver, path, String(size)])).toMatchObject({ code: 0 });
      const { domid } = await host.host.createDomain({ name: 'guest' });
      await host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: `${format}:${path}` });
      const guest = await host.connectGuest(domid);
      expect(guest.size).toBeGreaterThanOrEqual(size);
      const content = Buffer.alloc(guest.size);
      for (const offset of [0, 64 * 1024 - 512, MIB - 4096]) {
        const data = randomBytes(8192);
        data.copy(content, offset);
        await guest.write(offset, data);
      }
      await guest.flush();
      expect(Buffer.from(await guest.read(MIB - 8192, 16384)).equals(content.subarray(MIB - 8192, MIB + 8192))).toBe(
        true,
      );
      expect((await guest.read(guest.size - 4096, 4096)).every((byte) => byte === 0)).toBe(true);
      await host.host.toolstack.detachDisk(domid, 'xvda');
      const converted = await runTool('qemu-img', ['convert', '-f', driver, '-O', 'raw', path, host.path('raw')]);
      expect(converted).toMatchObject({ code: 0 });
      expect(readFileSync(host.path('raw')).subarray(0, size).equals(content.subarray(0, size))).toBe(true);
      daemon.stop();
      expect(await ended).toBe(0);
    },
  );

  qemu.it('tells each guest why its image is refused, however many are refused at once', async () => {
    const kinds: [reason: RegExp, make: (path: string) => Promise<unknown>][] = [
      [
        /: Image is not in qcow2 format \(qemu-storage-daemon ended with exit code 1\)/,
        async (path) => writeFileSync(path, Buffer.alloc(MIB)),
      ],
      [/: it does not exist$/, async () => {}],
      [
        /: Unsupported qcow2 version 99 \(qemu-storage-daemon ended with exit code 1\)/,
        async (path) => writeFileSync(path, headerOfVersion(99)),
      ],
      [
        /: Image is corrupt; cannot be opened read\/write \(qemu-storage-daemon ended with exit code 1\)/,
        (path) => makeCorrupt(path),
      ],
      [/: Failed to get "write" lock; .*\(qemu-storage-daemon ended with exit code 1\)/, (path) => makeLocked(path)],
    ];
    await using holders = new Cleanup();
    async function makeLocked(path: string) {
      await qcow2(basename(path));
      holders.use(await openFormatImage({ path, format: 'qcow2', readOnly: false, directory: host.path('holders') }));
    }
    const ended = daemon.start();
    await daemon.says('ready');
    const refused: { error: string; path: string; reason: RegExp }[] = [];
    for (let n = 0; n < 20; n++) {
      const [reason, make] = kinds[n % kinds.length];
      const path = host.path(`disk-${n}`);
      await make(path);
      refused.push({ path, reason, ...(await attachFormat(path)) });
    }
    for (const { error, path, reason } of refused) {
      const text = await vi.waitFor(
        async () => (await host.store.tryRead(error)) ?? expect.fail(`${path}: no error`),
        9000,
      );
      expect(text).toContain(`${path}: `);
      expect(text).toMatch(reason);
    }
    daemon.stop();
    expect(await ended).toBe(0);
    expect(readdirSync(host.path('helpers'))).toEqual([]);
  });

  qemu.it('holds a guest whose image is away, and serves it when it is there again', async () => {
    const ended = daemon.start();
    await daemon.says('ready');
    const path = await qcow2('disk.qcow2');
    const { domid } = await attachFormat(path);
    const guest = await host.connectGuest(domid);
    const data = randomBytes(MIB);
    await guest.write(0, data);
    await guest.flush();
    renameSync(path, `${path}.away`);
    killServerOf(path);
    const reading = guest.read(0, MIB);
    await daemon.says('qemu-storage-daemon does not start');
    expect(await host.store.read(`/local/domain/0/backend/qdisk/${domid}/51712/state`)).toBe('4');
    renameSync(`${path}.away`, path);
    expect(Buffer.from(await reading).equals(data)).toBe(true);
    await host.host.toolstack.detachDisk(domid, 'xvda');
    daemon.stop();
    expect(await ended).toBe(0);
    expect(processesWith(path)).toEqual([]);
  });

  qemu.it('ends the helper of an image that is away for good, with its disk and with itself', async () => {
    const ended = daemon.start();
    await daemon.says('ready');
    const paths = [await qcow2('first'), await qcow2('second')];
    const [{ domid }] = [await attachFormat(paths[0]), await attachFormat(paths[1])];
    for (const path of paths) await vi.waitFor(() => expect(processesWith(path)).toHaveLength(1));
    await vi.waitFor(() => expect(daemon.lines.filter(({ msg }) => msg === 'InitWait')).toHaveLength(2));
    for (const path of paths) {
      rmSync(path);
      killServerOf(path);
    }
    await daemon.says('qemu-storage-daemon does not start');
    await host.host.toolstack.detachDisk(domid, 'xvda');
    await vi.waitFor(() => expect(readdirSync(host.path('helpers'))).toHaveLength(1));
    daemon.stop();
    expect(await ended).toBe(0);
    expect(paths.flatMap(processesWith)).toEqual([]);
    expect(readdirSync(host.path('helpers'))).toEqual([]);
  });

  it('removes the folders that helpers of a daemon that is gone left', async () => {
    const { pid } = spawnSync('true');
    const left = host.path(`helpers/xen-blockd-${pid}-1-AbCd12`);
    mkdirSync(left, { recursive: true, mode: 0o700 });
    const ended = daemon.start();
    await daemon.says('ready');
    expect(existsSync(left)).toBe(false);
    daemon.stop();
    expect(await ended).toBe(0);
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
