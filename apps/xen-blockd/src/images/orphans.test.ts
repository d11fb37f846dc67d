import { mkdirSync, readdirSync, renameSync, utimesSync, writeFileSync } from 'node:fs';
import { Blkfront } from '@xenpv/blkfront';
import { joinHost, RemoteHost } from '@xenpv/emulator';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Cleanup } from '../cleanup.js';
import { FolderHost } from '../testing/folder-host.js';
import type { BlockdProcess } from '../testing/process.js';
import { processesWith } from '../testing/storage-helpers.js';
import { findTool, runTool } from '../tools.js';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 30_000 });
const addon = working('the addon of xen-sys', requireNativeAddon);
const BLOCK = 64 << 10;
const BLOCKS = [0, 7, 30, 100];

let host: FolderHost;
let daemon: BlockdProcess;
let remote: RemoteHost;
let cleanup: Cleanup;

beforeEach(async () => {
  cleanup = new Cleanup();
  host = cleanup.use(await FolderHost.start());
  daemon = await host.daemon('--threads', '1');
  remote = cleanup.use(await RemoteHost.connect(host.directory));
});
afterEach(() => cleanup[Symbol.asyncDispose]());

async function qcow2(name = 'disk.qcow2'): Promise<string> {
  const path = host.path(name);
  // A helper that was killed has the image for a moment longer than it is seen.
  await vi.waitFor(async () => {
    expect((await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', path, '32M'])).code).toBe(0);
  });
  return path;
}

/** A domain with the image as xvda. */
async function guestOf(path: string) {
  const { domid } = await remote.createDomain({ name: 'guest' });
  const attach = () => remote.attachDisk(domid, { vdev: 'xvda', target: path, format: 'qcow2' });
  const connect = async () => {
    const provider = await joinHost(host.directory, { domid });
    const store = cleanup.use(XenstoreClient.open(await provider.connectXenstore()));
    return Blkfront.connect({ provider, store, vdev: 'xvda' });
  };
  await attach();
  return { domid, attach, connect, path };
}
type Guest = Awaited<ReturnType<typeof guestOf>>;

/** Has writes acknowledged that are not flushed; the guest ends its use of the disk then, or is ended with it. */
async function write(guest: Guest): Promise<void> {
  const disk = await guest.connect();
  for (const block of BLOCKS) await disk.write(block * BLOCK, new Uint8Array(BLOCK).fill(block + 1));
  await disk.close();
}

async function expectContent(guest: Guest, content: 'what was written' | 'nothing'): Promise<void> {
  const disk = await guest.connect();
  for (const block of BLOCKS) {
    const bytes = await disk.read(block * BLOCK, BLOCK);
    expect(new Set(bytes), `block ${block}`).toEqual(new Set([content === 'nothing' ? 0 : block + 1]));
  }
  await disk.close();
}

const helpersOf = (path: string) => processesWith(`"${path}"`);

/** With the helpers of these images. */
async function killDaemon(images: readonly string[]): Promise<void> {
  await host.kill(daemon);
  for (const pid of images.flatMap(helpersOf)) process.kill(pid, 'SIGKILL');
  await vi.waitFor(() => expect(images.flatMap(helpersOf)).toEqual([]));
}

async function destroyed(guest: Guest): Promise<Guest> {
  await remote.destroyDomain(guest.domid);
  return guestOf(guest.path);
}

/** What happens to a guest while no daemon lives; resolves with who has its image then. */
const happenings: Record<string, (guest: Guest) => Promise<Guest>> = {
  'connects again': async (guest) => guest,
  'another domain': destroyed,
  'given back': async (guest) => {
    await remote.detachDisk(guest.domid, 'xvda', { force: true });
    await guest.attach();
    return guest;
  },
};

needs(addon, 'qemu-img', 'qemu-storage-daemon', 'Linux').describe('while no daemon lives', () => {
  it('guests connect again, disks are given back, other domains get images: nothing is lost of what was written', async () => {
    const guests: { guest: Guest; happens: (guest: Guest) => Promise<Guest> }[] = [];
    for (const [name, happens] of [...Object.entries(happenings), ['helper lives', destroyed] as const]) {
      guests.push({ guest: await guestOf(await qcow2(`${name}.qcow2`)), happens });
    }
    for (const { guest } of guests) await write(guest);
    await killDaemon(guests.slice(0, -1).map(({ guest }) => guest.path));
    const next: Guest[] = [];
    for (const { guest, happens } of guests) next.push(await happens(guest));
    daemon = await host.daemon('--threads', '1');
    for (const guest of next) {
      await expectContent(guest, 'what was written');
      expect(helpersOf(guest.path)).toHaveLength(1);
    }
  });

  it('another domain gets the image, and helpers die while they write back: nothing is lost', async () => {
    const guest = await guestOf(await qcow2());
    await write(guest);
    await killDaemon([guest.path]);
    await remote.destroyDomain(guest.domid);
    const next = await guestOf(guest.path);
    const [bin, starts] = [host.path('bin'), host.path('starts')];
    mkdirSync(bin);
    const script = `#!/bin/sh\necho >> ${starts}\n[ $(wc -l < ${starts}) -le 4 ] && kill -9 $$\nexec ${findTool('qemu-storage-daemon')} "$@"\n`;
    writeFileSync(`${bin}/qemu-storage-daemon`, script, { mode: 0o755 });
    daemon = await host.daemonIn({ PATH: `${bin}:${process.env.PATH}` });
    await expectContent(next, 'what was written');
  });

  it('an image is changed by somebody else: writes that were kept for it are dropped', async () => {
    const guest = await guestOf(await qcow2());
    await write(guest);
    await killDaemon([guest.path]);
    await remote.destroyDomain(guest.domid);
    await qcow2();
    const later = Date.now() / 1000 + 60;
    utimesSync(guest.path, later, later);
    const next = await guestOf(guest.path);
    daemon = await host.daemon();
    await expectContent(next, 'nothing');
    expect(daemon.stderr).toMatch(/"reason":"the image was changed since".*were not flushed are dropped/);
  });

  it('an image is not there for a while: what was written waits for it', async () => {
    const guest = await guestOf(await qcow2());
    await write(guest);
    await killDaemon([guest.path]);
    await remote.destroyDomain(guest.domid);
    renameSync(guest.path, `${guest.path}-away`);
    daemon = await host.daemon();
    await daemon.says('what was written to it and not flushed is kept until it is');
    renameSync(`${guest.path}-away`, guest.path);
    await expectContent(await guestOf(guest.path), 'what was written');
  });

  it('a drive gets another medium, and none: the helpers of the earlier ones end', async () => {
    const media = [await qcow2('a.qcow2'), await qcow2('b.qcow2')];
    const { domid } = await remote.createDomain({ name: 'guest' });
    await remote.attachDisk(domid, { vdev: 'xvda', target: media[0], format: 'qcow2', deviceType: 'cdrom' });
    const store = cleanup.use(XenstoreClient.open(await (await joinHost(host.directory)).connectXenstore()));
    const helpers = () => media.map((path) => helpersOf(path).length);
    await vi.waitFor(() => expect(helpers()).toEqual([1, 0]), 15_000);
    for (const [params, expected] of [
      [`qcow2:${media[1]}`, [0, 1]],
      ['', [0, 0]],
    ] as const) {
      await killDaemon([]);
      await store.write(`/local/domain/0/backend/qdisk/${domid}/51712/params`, params);
      daemon = await host.daemon('--threads', '1');
      await vi.waitFor(() => expect(helpers()).toEqual(expected), 15_000);
    }
    await vi.waitFor(() => expect(readdirSync(host.path('helpers'))).toEqual([]), 15_000);
  });

  it('xenstored loses a guest that lives: its helper stays, and goes on when the guest is known again', async () => {
    const [lost, gone] = [await guestOf(await qcow2()), await guestOf(await qcow2('gone.qcow2'))];
    await vi.waitFor(() => expect([helpersOf(lost.path).length, helpersOf(gone.path).length]).toEqual([1, 1]), 15_000);
    const [pid] = helpersOf(lost.path);
    await expect.poll(() => daemon.stderr, { timeout: 15_000 }).toMatch(/InitWait[\s\S]*InitWait/);
    await killDaemon([]);
    const store = cleanup.use(XenstoreClient.open(await (await joinHost(host.directory)).connectXenstore()));
    const nodes = new Map<string, string>();
    const visit = async (path: string): Promise<void> => {
      nodes.set(path, await store.read(path));
      for (const name of await store.directory(path)) await visit(`${path}/${name}`);
    };
    const places = [`/local/domain/${lost.domid}`, `/local/domain/0/backend/qdisk/${lost.domid}`];
    for (const path of places) await visit(path);
    await remote.detachDisk(gone.domid, 'xvda', { force: true });
    await remote.destroyDomain(gone.domid);
    await store.remove('/local/domain/0/backend');
    await store.remove(places[0]);
    daemon = await host.daemon();
    await vi.waitFor(() => expect(helpersOf(gone.path)).toEqual([]), 15_000);
    expect(helpersOf(lost.path)).toEqual([pid]);
    await store.transaction(async (tx) => {
      for (const [path, value] of nodes) await tx.write(path, value);
    });
    await expect.poll(() => daemon.stderr, { timeout: 15_000 }).toContain('of an earlier process goes on');
    expect(helpersOf(lost.path)).toEqual([pid]);
  });
});
