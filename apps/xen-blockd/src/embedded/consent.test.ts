import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import type { Blkfront } from '@xenpv/blkfront';
import { QmpClient } from '@xenpv/qmp';
import { needs, working } from '@xenpv/test-support';
import { ThrottledDevices } from '@xenpv/test-support/throttled-devices';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Cleanup } from '../cleanup.js';
import { FolderHost } from '../testing/folder-host.js';
import { attachTo } from '../testing/guest-load.js';
import { type BlockdProcess, runBlockd } from '../testing/process.js';
import { Scrape } from '../testing/scrape.js';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const addon = working('the addon of xen-sys', requireNativeAddon);
const throttle = { name: 'root and the throttle of block I/O', met: () => ThrottledDevices.missing === undefined };
const SOON = { timeout: 30_000 };
const BYTES = 4 << 20;
const PAGE = 4096;
/** Where the requests are that are in flight when the daemon dies. */
const PAGES = [10, 20, 30, 40, 50, 60, 70, 80];
/** What the guest has been told of, what it writes then, and what others put into the image. */
const [OLD, NEW, OTHER] = [0x11, 0x22, 0x33];

needs(addon, throttle, 'mke2fs', 'losetup').describe('a guest with requests in flight, whose daemon is killed', () => {
  let cleanup: Cleanup;
  let host: FolderHost;
  let image: string;
  let disk: Blkfront;
  let writes: Promise<void>[];
  let daemon: BlockdProcess;

  beforeEach(async () => {
    cleanup = new Cleanup();
    host = cleanup.use(await FolderHost.start());
    const [backing, mount] = [host.path('backing'), host.path('mount')];
    writeFileSync(backing, '');
    truncateSync(backing, 32 << 20);
    const devices = cleanup.use(new ThrottledDevices(`consent-${process.pid}`));
    const device = devices.create(backing);
    execFileSync('mke2fs', ['-q', '-t', 'ext4', device]);
    mkdirSync(mount);
    execFileSync('mount', [device, mount]);
    cleanup.defer(() => execFileSync('umount', [mount]));
    image = host.path('mount/image');
    writeFileSync(image, new Uint8Array(BYTES).fill(OLD));
    execFileSync('sync', ['-f', image]);
    daemon = await host.daemon();
    cleanup.defer(() => host.kill(daemon));
    disk = await attachTo(host.directory, cleanup, { target: image });
    await disk.write(0, new Uint8Array(PAGE).fill(NEW));
    devices.add(daemon.child.pid);
    devices.limit(device, 'bps', 1);
    writes = PAGES.map((page) => disk.write(page * PAGE, new Uint8Array(PAGE).fill(NEW)));
    // A test that fails closes the disk.
    for (const write of writes) write.catch(() => {});
    await expect.poll(async () => (await look()).statistics.inFlight, SOON).toBe(PAGES.length);
    await host.kill(daemon);
    // It reaches the image that the dead daemon had.
    devices.limit(device, 'bps', 'none');
    await expect.poll(() => written(image), SOON).toEqual([0, ...PAGES]);
  });
  afterEach(() => cleanup[Symbol.asyncDispose]());

  async function look(): Promise<{ device: string; held?: { reason: string }; statistics: { inFlight: number } }> {
    const client = await QmpClient.connect(host.path('xen-blockd.sock'));
    const [report] = (await client.execute('x-query-disks').finally(() => client.close())) as never[];
    return report;
  }

  const resume = async (...consent: string[]) => {
    const { device } = await look();
    const socket = ['--socket', host.path('xen-blockd.sock')];
    const { code, stdout, stderr } = await runBlockd('resume', device, ...consent, ...socket);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    return stdout;
  };

  /** Pages of an image that have what the guest wrote. */
  function written(path: string): number[] {
    const bytes = readFileSync(path);
    return Array.from({ length: BYTES / PAGE }, (_, page) => page).filter((page) => bytes[page * PAGE + 9] === NEW);
  }

  /** The disk is held for that reason, whatever else is consented to, and nothing is carried out. */
  async function isHeld(reason: RegExp, otherConsent: string): Promise<void> {
    await expect.poll(() => daemon.stderr, SOON).toContain('held, its guest waits');
    const why = async () => (await look()).held?.reason;
    await expect.poll(why, SOON).toMatch(reason);
    for (const consent of [[], [otherConsent]]) {
      await resume(...consent);
      await expect.poll(why, SOON).toMatch(reason);
    }
    expect(written(image)).toEqual([]);
  }

  async function goesOn(): Promise<void> {
    await Promise.all(writes);
    expect(written(image)).toEqual(PAGES);
    await disk.write(0, new Uint8Array(PAGE).fill(NEW));
    await disk.flush();
    expect(written(image)).toEqual([0, ...PAGES]);
    await expect.poll(async () => (await look()).held, SOON).toBeUndefined();
  }

  it('and whose image is replaced meanwhile has nothing written to the new one until --accept-image says so', async () => {
    const other = new Uint8Array(BYTES).fill(OTHER);
    writeFileSync(`${image}.new`, other);
    renameSync(image, `${image}.old`);
    renameSync(`${image}.new`, image);
    daemon = await host.daemon();
    await isHeld(/is another one than .*--accept-image/, '--without-journal');
    // A third daemon knows it as the second did.
    await host.kill(daemon);
    daemon = await host.daemon('--metrics', host.path('metrics'));
    await isHeld(/is another one than .*--accept-image/, '--without-journal');
    expect(readFileSync(image).equals(other)).toBe(true);
    await resume('--accept-image');
    await goesOn();
    expect(daemon.stderr).toContain(`"recovered":${PAGES.length}`);
    const metrics = await Scrape.from(host.path('metrics'));
    expect(metrics.value('xen_blockd_recovered_requests_total')).toBe(PAGES.length);
    expect((await disk.read(PAGE, PAGE))[0]).toBe(OTHER);
    expect(written(`${image}.old`)).toEqual([0, ...PAGES]);
  });

  it.each<[string, (journal: string) => void, RegExp]>([
    ['deleted', (journal) => rmSync(journal), /the journal .* is gone.*--without-journal/],
    ['damaged', (journal) => writeFileSync(journal, 'not ours'), /the journal .* is cut short.*--without-journal/],
  ])('and whose journal is %s has nothing carried out until --without-journal says so', async (_, spoil, reason) => {
    const journals = readdirSync(host.path('journal')).filter((name) => /^qdisk-\d+-51712-\d+$/.test(name));
    expect(journals.length).toBeGreaterThan(0);
    for (const name of journals) spoil(host.path(`journal/${name}`));
    // So that it is seen who writes there again.
    writeFileSync(image, new Uint8Array(BYTES).fill(OTHER), { flag: 'r+' });
    daemon = await host.daemon();
    await isHeld(reason, '--accept-image');
    await resume('--without-journal');
    await goesOn();
  });
});
