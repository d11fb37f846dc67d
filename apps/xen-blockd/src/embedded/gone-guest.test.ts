import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Blkfront } from '@xenpv/blkfront';
import { rawQueue } from '@xenpv/blkfront/testing';
import { joinHost, RemoteHost } from '@xenpv/emulator';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Cleanup } from '../cleanup.js';
import { diesOf, writePages } from '../testing/deadly-request.js';
import { FolderHost } from '../testing/folder-host.js';
import type { BlockdProcess } from '../testing/process.js';
import { mounting, mountTmpfs, type SmallFileSystem } from '../testing/tmpfs.js';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 30_000 });

const PAGE = 4096;
const PAGES = [10, 20, 30, 40, 50, 60];
const SOON = { timeout: 20_000 };
/** What another writer has put there meanwhile. */
const OTHER = Buffer.alloc(1024 * 1024, 0xee);

let host: FolderHost;
let cleanup: Cleanup;
let remote: RemoteHost;
let image: string;
let journal: string;

beforeEach(async () => {
  // No daemon is there to let go of a disk.
  host = await FolderHost.start({ toolstackMs: 500 });
  cleanup = new Cleanup();
  remote = cleanup.use(await RemoteHost.connect(host.directory));
  image = host.path('image');
  journal = host.path('journal');
  mkdirSync(journal, { mode: 0o700 });
  writeFileSync(image, Buffer.alloc(OTHER.length));
});
afterEach(async () => {
  await cleanup[Symbol.asyncDispose]();
  await host[Symbol.asyncDispose]();
});

async function createGuest(domid?: number): Promise<number> {
  const guest = await remote.createDomain({ name: 'guest', transient: true, domid });
  await remote.attachDisk(guest.domid, { vdev: 'xvda', target: image });
  return guest.domid;
}

async function connect(domid: number, options: { waitForInitWait: boolean }): Promise<Blkfront> {
  const provider = await joinHost(host.directory, { domid });
  const store = cleanup.use(XenstoreClient.open(await provider.connectXenstore()));
  const disk = await Blkfront.connect({ provider, store, vdev: 'xvda', closeTimeoutMs: 500, testing: options });
  // Its domain may be gone then.
  cleanup.defer(() => disk.close().catch(() => {}));
  return disk;
}

/** A guest whose daemon was killed with writes in flight that are noted. Resolves with its domid. */
async function killedInFlight(): Promise<number> {
  const first = await host.daemon();
  const domid = await createGuest();
  const disk = await connect(domid, { waitForInitWait: true });
  await host.kill(first);
  for (const answer of writePages(rawQueue(disk), PAGES)) answer.catch(() => {});
  await diesOf(host.directory, { point: 'queued', offset: PAGES[2] * PAGE });
  expect(readdirSync(journal)).toContain(`qdisk-${domid}-51712-0`);
  return domid;
}

/** What xenstore has at and below some paths; resolves with what writes it there again, all at once. */
async function keysOf(store: XenstoreClient, ...paths: string[]): Promise<() => Promise<void>> {
  const keys: [string, string][] = [];
  const visit = async (path: string): Promise<void> => {
    keys.push([path, await store.read(path)]);
    for (const name of await store.directory(path)) await visit(`${path}/${name}`);
  };
  for (const path of paths) await visit(path);
  return () =>
    store.transaction(async (tx) => {
      for (const [path, value] of keys) await tx.write(path, value);
    });
}

/** All disks that were left are dealt with. */
const isStarted = (daemon: BlockdProcess) =>
  expect.poll(() => daemon.stderr, SOON).toContain('every disk that was found is served or held');

/** Mappings of this process below the folder of journals. */
const mapped = ({ child }: BlockdProcess) =>
  readFileSync(`/proc/${child.pid}/maps`, 'utf8')
    .split('\n')
    .filter((line) => line.includes(journal));

needs(working('the addon of xen-sys', requireNativeAddon), 'Linux').describe(
  'a guest that is gone when the next daemon comes, migrated away or destroyed',
  () => {
    it('has none of its requests carried out in the image that somebody else has, and leaves nothing', async () => {
      await remote.destroyDomain(await killedInFlight());
      writeFileSync(image, OTHER);
      const daemon = await host.daemon();
      await isStarted(daemon);
      await expect.poll(() => readdirSync(journal), SOON).toEqual([]);
      expect(mapped(daemon)).toEqual([]);
      await host.kill(daemon, 'SIGTERM');
      expect(readFileSync(image).equals(OTHER)).toBe(true);
    });

    it.each<[string, (domid: number) => string[]]>([
      ['backend', (domid) => [`/local/domain/0/backend/qdisk/${domid}`]],
      ['backend and frontend', (domid) => [`/local/domain/0/backend/qdisk/${domid}`, `/local/domain/${domid}`]],
    ])('has none carried out though a toolstack that crashed has left the keys of its %s', async (_, paths) => {
      const domid = await killedInFlight();
      const store = cleanup.use(XenstoreClient.open(await (await joinHost(host.directory)).connectXenstore()));
      const leave = await keysOf(store, ...paths(domid));
      await remote.destroyDomain(domid);
      await leave();
      writeFileSync(image, OTHER);
      const daemon = await host.daemon();
      await isStarted(daemon);
      // Longer than it takes to try again.
      await sleep(2000);
      expect(readFileSync(image).equals(OTHER)).toBe(true);
      for (const path of paths(domid)) await store.remove(path);
      await expect.poll(() => readdirSync(journal), SOON).toEqual([]);
      expect(mapped(daemon)).toEqual([]);
      await host.kill(daemon, 'SIGTERM');
      expect(readFileSync(image).equals(OTHER)).toBe(true);
    });

    it('has none carried out when its disk alone is taken away', async () => {
      const domid = await killedInFlight();
      await remote.detachDisk(domid, 'xvda', { force: true });
      writeFileSync(image, OTHER);
      const daemon = await host.daemon();
      await isStarted(daemon);
      await expect.poll(() => readdirSync(journal), SOON).toEqual([]);
      await host.kill(daemon, 'SIGTERM');
      expect(readFileSync(image).equals(OTHER)).toBe(true);
    });

    it.each([true, false])(
      'has none carried out for a new guest of its number on the same image (which waits for the backend: %s)',
      async (waitForInitWait) => {
        const domid = await killedInFlight();
        await remote.destroyDomain(domid);
        writeFileSync(image, OTHER);
        expect(await createGuest(domid)).toBe(domid);
        const connecting = connect(domid, { waitForInitWait });
        const store = cleanup.use(XenstoreClient.open(await (await joinHost(host.directory)).connectXenstore()));
        const state = () => store.read(`/local/domain/${domid}/device/vbd/51712/state`);
        if (!waitForInitWait) await expect.poll(state, SOON).toBe('3');
        const daemon = await host.daemon();
        const disk = await connecting;
        expect(Buffer.compare(await disk.read(0, OTHER.length), OTHER)).toBe(0);
        await expect.poll(() => daemon.stderr, SOON).toContain('"recovered":0');
        const data = Buffer.alloc(PAGE, 7);
        await disk.write(30 * PAGE, data);
        await disk.close();
        await expect.poll(() => readdirSync(journal), SOON).toEqual([]);
        const expected = Buffer.from(OTHER);
        data.copy(expected, 30 * PAGE);
        expect(readFileSync(image).equals(expected)).toBe(true);
      },
    );
  },
);

/** The image is not where it was, so that the next daemon holds the disk. */
async function heldInFlight(): Promise<{ domid: number; daemon: BlockdProcess }> {
  const domid = await killedInFlight();
  renameSync(image, `${image}.away`);
  const daemon = await host.daemon();
  await expect.poll(() => daemon.stderr, SOON).toContain('"msg":"held, its guest waits');
  expect(readdirSync(journal)).toContain(`qdisk-${domid}-51712-0`);
  return { domid, daemon };
}

/** Writes into the folder of journals until there is no room. */
function fill(): void {
  expect(() => writeFileSync(join(journal, 'other'), Buffer.alloc(64 * 1024 * 1024))).toThrow('ENOSPC');
}

/** The image is back, changed by somebody else, and nobody has carried anything out in it. */
async function isLeftAlone(daemon: BlockdProcess): Promise<void> {
  writeFileSync(image, OTHER);
  // Longer than it takes to try again.
  await sleep(2000);
  await host.kill(daemon, 'SIGTERM');
  expect(readFileSync(image).equals(OTHER)).toBe(true);
}

needs(working('the addon of xen-sys', requireNativeAddon), 'Linux').describe('a held disk that goes', () => {
  it.each<[string, (domid: number, store: XenstoreClient) => Promise<unknown>]>([
    ['its guest is destroyed', (domid) => remote.destroyDomain(domid)],
    ['it is detached by force', (domid) => remote.detachDisk(domid, 'xvda', { force: true })],
    [
      'the half of the backend alone is removed',
      async (domid, store) => {
        await store.remove(`/local/domain/0/backend/qdisk/${domid}`);
        await sleep(1000);
        await store.remove(`/local/domain/${domid}/device/vbd/51712`);
      },
    ],
  ])('because %s leaves no journal', async (_, go) => {
    const { domid, daemon } = await heldInFlight();
    const store = cleanup.use(XenstoreClient.open(await (await joinHost(host.directory)).connectXenstore()));
    await go(domid, store);
    await expect.poll(() => readdirSync(journal), SOON).toEqual([]);
    expect(mapped(daemon)).toEqual([]);
    await isLeftAlone(daemon);
  });

  needs(...mounting).it.each<[string, (folder: SmallFileSystem) => void, (folder: SmallFileSystem) => void]>([
    ['may not be written', (folder) => folder.remount('ro'), (folder) => folder.remount('rw')],
    ['is full', () => fill(), () => rmSync(join(journal, 'other'))],
  ])('while the folder of journals %s leaves none when that is over', async (_, spoil, mend) => {
    const folder = mountTmpfs(4 * 1024 * 1024);
    rmdirSync(journal);
    symlinkSync(folder.path, journal);
    const { domid, daemon } = await heldInFlight();
    spoil(folder);
    await remote.destroyDomain(domid);
    await expect.poll(() => daemon.stderr, SOON).toContain('"msg":"device gone"');
    mend(folder);
    await expect.poll(() => readdirSync(journal), SOON).toEqual([]);
    await isLeftAlone(daemon);
  });

  it('has nothing to do with a new guest of its number', async () => {
    const { domid, daemon } = await heldInFlight();
    await remote.destroyDomain(domid);
    writeFileSync(image, OTHER);
    expect(await createGuest(domid)).toBe(domid);
    const disk = await connect(domid, { waitForInitWait: true });
    const noted = () => readdirSync(journal).sort();
    await expect.poll(noted, SOON).toEqual([`qdisk-${domid}-51712-0`, `qdisk-${domid}-51712-image`]);
    // Longer than what is left over is looked for.
    await sleep(7000);
    expect(noted()).toHaveLength(2);
    expect(daemon.stderr).not.toContain('are not noted');
    expect(Buffer.compare(await disk.read(0, OTHER.length), OTHER)).toBe(0);
    await host.kill(daemon);
    await host.daemon();
    expect(Buffer.compare(await disk.read(0, OTHER.length), OTHER)).toBe(0);
  });
});
