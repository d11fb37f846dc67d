import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rawQueue } from '@xenpv/blkfront/testing';
import { memoryImage } from '@xenpv/blockdev';
import { EmulatedHost } from '@xenpv/emulator';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { GatedImage } from '../testing/gated-image.js';
import { type TestGuest, TestHost } from '../testing/host.js';
import { startKillable, writePages } from '../testing/killable.js';

const PAGE = 4096;
const PAGES = [10, 20, 30, 40];

let journalDirectory: string;
let host: TestHost;
beforeEach(async () => {
  journalDirectory = mkdtempSync(join(tmpdir(), 'lost-tree-'));
  host = await TestHost.start();
  await host.backend.close();
});
afterEach(async () => {
  await host[Symbol.asyncDispose]();
  rmSync(journalDirectory, { recursive: true });
});

/** Makes known to one xenstored, all at once, what another one has at and below some paths. */
function restore(from: XenstoreClient, to: XenstoreClient, ...paths: string[]): Promise<void> {
  return to.transaction(async (tx) => {
    const visit = async (path: string): Promise<void> => {
      await tx.write(path, await from.read(path));
      for (const name of await from.directory(path)) await visit(`${path}/${name}`);
    };
    for (const path of paths) await visit(path);
  });
}

/** A xenstored that was started anew, beside the guests that live on. */
async function emptyXenstored() {
  const other = await EmulatedHost.create();
  const store = XenstoreClient.open(other.xenstored.connect(0));
  return {
    store,
    async [Symbol.asyncDispose]() {
      await host.backend.close();
      await store.close();
      await other.close();
    },
  };
}

/** A guest with writes in flight whose backend is killed. */
async function killedUnderLoad() {
  const memory = memoryImage({ size: 1 << 20 });
  const gate = new GatedImage(memory);
  host.images.set('disk', () => gate);
  const kill = await startKillable(host, journalDirectory);
  const guest = await host.guest();
  const disk = await guest.connect();
  const answers = writePages(rawQueue(disk), PAGES);
  await vi.waitFor(() => expect(gate.log).toHaveLength(PAGES.length));
  await kill();
  host.images.set('disk', () => memory);
  return { guest, disk, answers, journals: () => readdirSync(journalDirectory) };
}

describe('a daemon that starts while xenstored knows nothing', () => {
  it('leaves the journals of living guests, whose disks it serves when they are known again', async () => {
    const { guest, disk, answers, journals } = await killedUnderLoad();
    await using xenstored = await emptyXenstored();
    const { store } = xenstored;
    const found = journals();
    expect(found.length).toBeGreaterThan(0);
    for (let lives = 0; lives < 2; lives++) {
      await host.startBackend({ journalDirectory, store });
      expect(journals()).toEqual(found);
      if (lives === 0) await host.backend.close();
    }
    await restore(host.store, store, `/local/domain/${guest.domid}`, '/local/domain/0/backend');
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual(PAGES.map(() => 0));
    expect(host.device.statistics().recovered).toBe(PAGES.length);
    for (const page of PAGES) expect((await disk.read(page * PAGE, PAGE)).every((byte) => byte === page)).toBe(true);
  });

  it('leaves them though another guest is made known before', async () => {
    const { answers, guest, journals } = await killedUnderLoad();
    const another = await host.guest();
    await another.attach({ target: 'another' });
    await using xenstored = await emptyXenstored();
    const { store } = xenstored;
    const found = journals();
    const halves = ({ domid }: TestGuest) => [`/local/domain/${domid}`, `/local/domain/0/backend/qdisk/${domid}`];
    await restore(host.store, store, ...halves(another));
    await host.startBackend({ journalDirectory, store });
    expect(journals()).toEqual(expect.arrayContaining(found));
    await restore(host.store, store, ...halves(guest));
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual(PAGES.map(() => 0));
  });
});

describe('a journal that an earlier process has left', () => {
  const leave = (domid: number, devid = 51712) =>
    writeFileSync(join(journalDirectory, `qdisk-${domid}-${devid}-0`), 'left');
  const left = async () => {
    await host.startBackend({ journalDirectory });
    return readdirSync(journalDirectory);
  };

  it('goes when its domain is gone, whatever xenstored knows', async () => {
    const guest = await host.guest();
    leave(guest.domid);
    await guest.destroy();
    await host.store.remove('/local/domain/0/backend').catch(() => {});
    expect(await left()).toEqual([]);
  });

  it('goes when its disk was taken from a guest that lives', async () => {
    const guest = await host.guest();
    await guest.attach({ vdev: 'xvda' });
    leave(guest.domid);
    leave(guest.domid, 51728);
    expect(await left()).toEqual([`qdisk-${guest.domid}-51712-0`]);
  });

  it('goes when the backend’s half of its disk was removed, and the frontend’s was forgotten', async () => {
    const [guest, other] = [await host.guest(), await host.guest()];
    await Promise.all([guest.attach(), other.attach({ target: 'another' })]);
    leave(guest.domid);
    await host.store.remove(`/local/domain/0/backend/qdisk/${guest.domid}`);
    expect(await left()).toEqual([]);
  });
});
