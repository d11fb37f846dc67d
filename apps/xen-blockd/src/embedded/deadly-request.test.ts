import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { Blkfront } from '@xenpv/blkfront';
import { rawQueue } from '@xenpv/blkfront/testing';
import { joinHost, RemoteHost } from '@xenpv/emulator';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Cleanup } from '../cleanup.js';
import { diesOf, writePages } from '../testing/deadly-request.js';
import { FolderHost } from '../testing/folder-host.js';

const PAGE = 4096;
const PAGES = [10, 20, 30, 40, 50, 60];
const DEADLY = 30;

let host: FolderHost;
let cleanup: Cleanup;
beforeEach(async () => {
  host = await FolderHost.start();
  cleanup = new Cleanup();
});
afterEach(async () => {
  await cleanup[Symbol.asyncDispose]();
  await host[Symbol.asyncDispose]();
});

/** A guest in this process, whose disk no daemon serves now. */
async function guestWithoutDaemon(): Promise<Blkfront> {
  const image = host.path('image');
  mkdirSync(host.path('journal'), { recursive: true });
  writeFileSync(image, '');
  truncateSync(image, 1024 * 1024);
  const daemon = await host.daemon();
  const remote = cleanup.use(await RemoteHost.connect(host.directory));
  const { domid } = await remote.createDomain({ name: 'guest', transient: true });
  await remote.attachDisk(domid, { vdev: 'xvda', target: image });
  const provider = await joinHost(host.directory, { domid });
  const store = cleanup.use(XenstoreClient.open(await provider.connectXenstore()));
  const disk = cleanup.use(await Blkfront.connect({ provider, store, vdev: 'xvda' }));
  await host.kill(daemon);
  return disk;
}

const dies = (point: 'queued' | 'completed') => diesOf(host.directory, { point, offset: DEADLY * PAGE });

needs(working('the addon of xen-sys', requireNativeAddon)).describe('a request that kills the daemon', () => {
  it('is carried out once more, alone, then answered with an error and told; all others succeed', async () => {
    const disk = await guestWithoutDaemon();
    const answers = writePages(rawQueue(disk), PAGES);
    // Taken; carried out again with the others; and alone, behind the first two.
    for (let lives = 0; lives < 3; lives++) await dies('queued');
    const daemon = await host.daemon();
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([0, 0, -1, 0, 0, 0]);
    // The others were carried out before it, while it waited for its turn.
    await daemon.says('"recovered":1');
    await daemon.says('has ended two processes');
    const line = daemon.stderr.split('\n').find((text) => text.includes('has ended two processes'));
    expect(JSON.parse(line ?? '{}')).toMatchObject({ operation: 'write', sector: DEADLY * 8, count: 1 });
    for (const page of PAGES.filter((one) => one !== DEADLY)) {
      expect((await disk.read(page * PAGE, PAGE)).every((byte) => byte === page)).toBe(true);
    }
  }, 60_000);

  it('when its completion is looked at, but does so no more after one strike, is carried out', async () => {
    const disk = await guestWithoutDaemon();
    const answers = writePages(rawQueue(disk), PAGES);
    for (let lives = 0; lives < 2; lives++) await dies('completed');
    await host.daemon();
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([0, 0, 0, 0, 0, 0]);
    expect((await disk.read(DEADLY * PAGE, PAGE)).every((byte) => byte === DEADLY)).toBe(true);
  }, 60_000);
});
