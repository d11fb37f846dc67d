import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Blkfront } from '@xenpv/blkfront';
import { type RawQueue, rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, RequestWriter } from '@xenpv/blkif';
import { joinHost, RemoteHost } from '@xenpv/emulator';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Cleanup } from '../cleanup.js';
import { packageRoot } from '../package-root.js';
import { FolderHost } from '../testing/folder-host.js';
import { BlockdProcess } from '../testing/process.js';

const PAGE = 4096;
const PAGES = [10, 20, 30, 40, 50, 60];
const DEADLY = 30;
const PRELOAD = fileURLToPath(new URL('src/testing/deadly-request.mjs', packageRoot));

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

/** Puts a write of each page, together. */
function writePages(raw: RawQueue): Promise<{ status: number }>[] {
  const answers = PAGES.map((page) => {
    const data = raw.page();
    data.bytes.fill(page);
    const words = new Int32Array(raw.abi.slotWords);
    const request = new RequestWriter(words, raw.abi);
    request.readWrite(BlkifOp.write, 1, page, 0, page * 8);
    request.segment(0, data.gref, 0, 7);
    return raw.put(words);
  });
  raw.push();
  return answers;
}

/** A daemon that dies of the request in page 30; resolves when it is dead. */
async function dies(point: 'queued' | 'completed'): Promise<void> {
  const args = ['run', '--emulator', host.directory, '--log-format', 'json'];
  const env = { XEN_BLOCKD_DEADLY: JSON.stringify({ point, offset: DEADLY * PAGE }) };
  const { code } = await new BlockdProcess(args, env, { preload: ['--import', PRELOAD] }).ended;
  expect(code).toBe(null);
}

needs(working('the addon of xen-sys', requireNativeAddon)).describe('a request that kills the daemon', () => {
  it('is carried out once more, alone, then answered with an error and told; all others succeed', async () => {
    const disk = await guestWithoutDaemon();
    const answers = writePages(rawQueue(disk));
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
    const answers = writePages(rawQueue(disk));
    for (let lives = 0; lives < 2; lives++) await dies('completed');
    await host.daemon();
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([0, 0, 0, 0, 0, 0]);
    expect((await disk.read(DEADLY * PAGE, PAGE)).every((byte) => byte === DEADLY)).toBe(true);
  }, 60_000);
});
