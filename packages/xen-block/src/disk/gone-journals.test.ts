import { mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rawQueue } from '@xenpv/blkfront/testing';
import { type BlockImage, memoryImage } from '@xenpv/blockdev';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { GatedImage } from '../testing/gated-image.js';
import { type TestGuest, TestHost } from '../testing/host.js';
import { startKillable, writePages } from '../testing/killable.js';

const PAGES = [10, 20, 30, 40];
const SOON = { timeout: 20_000 };
vi.setConfig({ testTimeout: 60_000 });

let journalDirectory: string;
let host: TestHost;
beforeEach(async () => {
  journalDirectory = mkdtempSync(join(tmpdir(), 'gone-journals-'));
  host = await TestHost.start({ abortTimeoutMs: 50 });
  await host.backend.close();
});
afterEach(async () => {
  await host[Symbol.asyncDispose]();
  rmSync(journalDirectory, { recursive: true });
});

const journals = () => readdirSync(journalDirectory).sort();
const of = (domid: number) => [`qdisk-${domid}-51712-0`, `qdisk-${domid}-51712-image`];

/** An image that is being opened until somebody says otherwise. */
interface Opening {
  begun: boolean;
  resolve(image: BlockImage): void;
}

/** A guest whose backend was killed with writes in flight, and whose image hangs as the next one opens it. */
async function hangs(): Promise<{ guest: TestGuest; opening: Opening }> {
  const gate = new GatedImage(memoryImage({ size: 1 << 20 }));
  host.images.set('disk', () => gate);
  const kill = await startKillable(host, journalDirectory);
  const guest = await host.guest();
  const disk = await guest.connect();
  for (const answer of writePages(rawQueue(disk), PAGES)) answer.catch(() => {});
  await vi.waitFor(() => expect(gate.log).toHaveLength(PAGES.length));
  await kill();
  const opening: Opening = { begun: false, resolve: () => {} };
  const hanging = new Promise<BlockImage>((resolve) => {
    opening.resolve = resolve;
  });
  host.images.set('disk', () => {
    opening.begun = true;
    return hanging;
  });
  await host.startBackend({ journalDirectory });
  await vi.waitFor(() => expect(opening.begun).toBe(true), SOON);
  expect(journals()).toEqual(of(guest.domid));
  return { guest, opening };
}

/** Whoever has opened it lets go of it. */
function watched(): { image: BlockImage; closed: Promise<void> } {
  const image = memoryImage({ size: 1 << 20 });
  const closed = new Promise<void>((resolve) => {
    const close = image.close.bind(image);
    image.close = () => close().finally(resolve);
  });
  return { image, closed };
}

describe('the journals of a disk whose image hangs', () => {
  it('go when its guest goes, though nobody can let go of the disk', async () => {
    const { guest, opening } = await hangs();
    await guest.destroy();
    await vi.waitFor(() => expect(journals()).toEqual([]), SOON);
    const { image, closed } = watched();
    opening.resolve(image);
    await closed;
    expect(journals()).toEqual([]);
  });

  it('go when it goes, and those of the next disk of its name stay when the image opens at last', async () => {
    const { guest, opening } = await hangs();
    await host.xen.toolstack.detachDisk(guest.domid, 'xvda', { force: true });
    await vi.waitFor(() => expect(journals()).toEqual([]), SOON);
    const disk = await guest.connect({}, { target: 'another' });
    const data = new Uint8Array(4096).fill(7);
    await disk.write(0, data);
    const found = journals();
    expect(found).toEqual(expect.arrayContaining(of(guest.domid)));
    const { image, closed } = watched();
    opening.resolve(image);
    await closed;
    expect(journals()).toEqual(found);
    // Nor does the disk that is gone take its place in the list.
    expect(host.device.config?.target).toBe('another');
    expect(await disk.read(0, 4096)).toEqual(data);
    await disk.close();
  });
});

describe('a journal that cannot be removed', () => {
  it('does not keep a backend from starting, and goes when it can be', async () => {
    const [stuck] = of(999);
    mkdirSync(join(journalDirectory, stuck));
    writeFileSync(join(journalDirectory, of(998)[0]), 'left');
    await host.startBackend({ journalDirectory });
    expect(journals()).toEqual([stuck]);
    rmdirSync(join(journalDirectory, stuck));
    writeFileSync(join(journalDirectory, stuck), 'left');
    await vi.waitFor(() => expect(journals()).toEqual([]), SOON);
  });
});
