import { once } from 'node:events';
import { renameSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import type { Blkfront } from '@xenpv/blkfront';
import { find, needs } from '@xenpv/test-support';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { startChromium } from '../testing/browser.js';
import { TestDaemon } from '../testing/daemon.js';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const SOON = { timeout: 20_000 };
const HOSTILE = '<img src=x onerror="document.title=1">\'&amp;</td></table><script>document.title=2</script>';

/** Reads and writes one block after the other until it is disposed of. */
class Load implements AsyncDisposable {
  #stopped = false;
  readonly #done: Promise<void>;

  constructor(guest: Blkfront) {
    this.#done = this.#run(guest);
  }

  async #run(guest: Blkfront): Promise<void> {
    for (let i = 0; !this.#stopped; i++) {
      if (i % 2 === 0) await guest.read((i % 64) * 4096, 4096);
      else await guest.write((i % 64) * 4096, new Uint8Array(4096));
      if (i % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    await this.#done;
  }
}

/** A port that nobody has just now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

needs('chromium').describe('the page in a browser', () => {
  let daemon: TestDaemon;
  let browser: Browser;
  let page: Page;
  let address: string;
  let load: Load;
  /** What the browser complains of: violations of the policy are among it. */
  const complaints: string[] = [];

  const start = async () => {
    void daemon.start({ page: address });
    await vi.waitFor(() => expect(daemon.lines.map(({ msg }) => msg)).toContain('ready'), SOON);
  };

  beforeAll(async () => {
    daemon = await TestDaemon.create();
    address = `localhost:${await freePort()}`;
    await start();
    const { domid } = await daemon.attach('web1');
    const other = await daemon.attach('db1');
    await daemon.host.store.write(`/local/domain/${other.domid}/name`, HOSTILE);
    load = new Load(await daemon.host.connectGuest(domid));
    await daemon.host.connectGuest(other.domid);
    browser = await startChromium(find('chromium') ?? '');
    page = await browser.newPage({ viewport: { width: 1000, height: 700 } });
    page.on('console', (message) => complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(error.message));
    await page.goto(`http://${address}/`);
  });
  afterAll(async () => {
    await browser?.close();
    await load?.[Symbol.asyncDispose]();
    await daemon?.[Symbol.asyncDispose]();
  });

  const contents = (selector: string) => page.locator(selector).allInnerTexts();

  it('shows disks under load with curves that grow, without a reload, and breaks no rule of its policy', async () => {
    await expect.poll(() => contents('.disks tbody tr'), SOON).toHaveLength(2);
    const curve = () => page.locator('tr:has-text("web1:xvda") .iops path.curve').getAttribute('d');
    await expect.poll(curve, SOON).toMatch(/^M[\d.,]+/);
    expect(await page.locator('tr:has-text("web1:xvda") svg').first().getAttribute('aria-label')).toMatch(
      /^IOPS: now \d/,
    );
    expect(await contents('tr:has-text("web1:xvda") .state')).toEqual(['● connected']);
    expect(complaints).toEqual([]);
  });

  it('shows a name full of markup as the text that it is', async () => {
    expect(await contents('.disks tbody th a')).toContain(`${HOSTILE}:xvda`);
    expect(await page.locator('main img, main script').count()).toBe(0);
    expect(await page.title()).toBe('xen-blockd');
    expect(complaints).toEqual([]);
  });

  it('is read with the keyboard, light and dark, and on a phone without scrolling sideways', async () => {
    await page.keyboard.press('Tab');
    expect(await page.evaluate('document.activeElement.textContent')).toBe('To the disks');
    const ground = () => page.evaluate<string>('getComputedStyle(document.body).backgroundColor');
    await page.emulateMedia({ colorScheme: 'light' });
    const light = await ground();
    await page.emulateMedia({ colorScheme: 'dark' });
    expect(await ground()).not.toBe(light);
    await page.setViewportSize({ width: 360, height: 740 });
    const wide = () => page.evaluate<number>('document.documentElement.scrollWidth');
    expect(await wide()).toBeLessThanOrEqual(360);
    await page.locator('a:has-text("web1:xvda")').first().focus();
    await page.keyboard.press('Enter');
    await expect.poll(() => contents('.histogram tbody tr'), SOON).not.toEqual([]);
    await expect.poll(() => contents('.keys caption'), SOON).toHaveLength(2);
    expect(await wide()).toBeLessThanOrEqual(360);
    await page.locator('figure.iops svg').focus();
    await page.keyboard.press('ArrowLeft');
    expect(await contents('figure.iops output')).toEqual([expect.stringMatching(/ ago: /)]);
    expect(complaints).toEqual([]);
  });

  it('says that the daemon is gone, comes back by itself, and tells of a disk that is held then', async () => {
    await page.goto(`http://${address}/#/`);
    await expect.poll(() => contents('.disks tbody tr'), SOON).toHaveLength(2);
    await load[Symbol.asyncDispose]();
    daemon.stop();
    await daemon.ended();
    await expect.poll(() => contents('#connection.away'), SOON).toEqual([expect.stringContaining('does not answer')]);
    expect(await contents('.disks tbody tr')).toHaveLength(2);
    renameSync(daemon.host.path('db1'), daemon.host.path('away'));
    await start();
    await expect.poll(() => contents('#connection'), SOON).toEqual(['● live; xen-blockd was started again']);
    await expect
      .poll(() => contents('.trouble.held'), SOON)
      .toEqual([expect.stringMatching(/db1[\s\S]*xen-blockd resume/)]);
    renameSync(daemon.host.path('away'), daemon.host.path('db1'));
    // A browser writes what it could not fetch to its console.
    expect(complaints.filter((text) => !/Failed to load resource/.test(text))).toEqual([]);
  });
});
