import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type RawQueue, rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, RequestWriter } from '@xenpv/blkif';
import { BlockOp, type MemoryImage, memoryImage } from '@xenpv/blockdev';
import type { EventChannels, GrantTable, XenProvider } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterAll, expect, it, vi } from 'vitest';
import type { JournalFailedEvent } from '../../diagnostics.js';
import type { XenBlockBackendOptions } from '../../options.js';
import { FailingStorage } from '../../testing/failing-image.js';
import { GatedImage } from '../../testing/gated-image.js';
import { TestHost } from '../../testing/host.js';

const PAGE = 4096;
const folder = mkdtempSync(join(tmpdir(), 'adoption-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A provider whose handles close as a kernel closes them when their process is killed. */
function killable(provider: XenProvider): { provider: XenProvider; kill(): void } {
  const handles: (EventChannels | GrantTable)[] = [];
  const kept = <T extends EventChannels | GrantTable>(handle: T): T => {
    handles.push(handle);
    return handle;
  };
  const wrapped = Object.create(provider, {
    openEventChannels: { value: () => kept(provider.openEventChannels()) },
    openGrantTable: { value: () => kept(provider.openGrantTable()) },
    features: { value: provider.features },
  });
  const kill = () => {
    for (const handle of handles) handle.close();
  };
  return { provider: wrapped, kill };
}

/** Puts writes of a page each, filled with the page's number, and pushes them together. */
function writePages(raw: RawQueue, pages: number[]) {
  const { abi } = raw;
  const answers = pages.map((page) => {
    const data = raw.page();
    data.bytes.fill(page);
    const words = new Int32Array(abi.slotWords);
    const request = new RequestWriter(words, abi);
    request.readWrite(BlkifOp.write, 1, page, 0, page * 8);
    request.segment(0, data.gref, 0, 7);
    return raw.put(words);
  });
  raw.push();
  return answers;
}

async function startKillable(host: TestHost, journalDirectory: string, options: Partial<XenBlockBackendOptions> = {}) {
  const { provider, kill } = killable(host.xen.provider(0));
  const store = XenstoreClient.open(host.xen.xenstored.connect(0));
  await host.startBackend({ provider, store, journalDirectory, ...options });
  return async () => {
    kill();
    await store.close();
  };
}

it('a backend killed with requests in flight is followed by one that answers them', async () => {
  const directory = mkdtempSync(join(folder, 'journal-'));
  await using host = await TestHost.start();
  await host.backend.close();
  const memory: MemoryImage = memoryImage({ size: 1024 * 1024 });
  const gates: GatedImage[] = [];
  host.images.set('disk', () => {
    gates.push(new GatedImage(memory));
    return gates.at(-1)!;
  });
  const kill = await startKillable(host, directory);
  const guest = await host.guest();
  const disk = await guest.connect();
  const answers = writePages(rawQueue(disk), [10, 20, 30, 40, 50, 60]);
  await vi.waitFor(() => expect(gates[0].log).toHaveLength(6));
  // Answers in another order than the requests': they go over requests that are in flight.
  gates[0].release((entry) => [40, 60].includes(entry.offset / PAGE));
  await Promise.all([answers[3], answers[5]]);
  await kill();
  writeFileSync(join(directory, 'qdisk-77-51712-0'), 'of a disk that is gone');

  await host.startBackend({ journalDirectory: directory });
  await vi.waitFor(() => expect(gates[1]?.log).toHaveLength(4));
  expect(gates[1].log.map(({ offset }) => offset / PAGE)).toEqual([10, 20, 30, 50]);
  expect(readdirSync(directory)).toEqual([`qdisk-${guest.domid}-51712-0`]);
  gates[1].open = true;
  gates[1].release();
  expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([0, 0, 0, 0, 0, 0]);
  expect((await disk.read(50 * PAGE, PAGE)).every((byte) => byte === 50)).toBe(true);
  await disk.close();
  expect(readdirSync(directory)).toEqual([]);
});

it('a backend killed while an error of the storage stops the disk is followed by one that does the rest', async () => {
  const directory = mkdtempSync(join(folder, 'journal-'));
  await using host = await TestHost.start();
  await host.backend.close();
  const storage = new FailingStorage();
  host.images.set('disk', () => storage.image());
  storage.fail('ENOSPC', [BlockOp.write]);
  const kill = await startKillable(host, directory, { onError: 'stop' });
  const guest = await host.guest();
  const disk = await guest.connect();
  const answers = writePages(rawQueue(disk), [10, 20, 30]);
  await vi.waitFor(() => expect(host.device.statistics().kept).toBe(3));
  await host.device.resume();
  await vi.waitFor(() => expect(host.device.stopped).toBeDefined());
  await kill();
  storage.mend();
  await host.startBackend({ journalDirectory: directory, onError: 'stop' });
  expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([0, 0, 0]);
  for (const page of [10, 20, 30])
    expect((await disk.read(page * PAGE, PAGE)).every((byte) => byte === page)).toBe(true);
  await disk.close();
});

it('a journal that cannot be kept is told of, and the disk served', async () => {
  const told: JournalFailedEvent[] = [];
  const listener = (event: unknown) => told.push(event as JournalFailedEvent);
  subscribe('xen-block:journal:failed', listener);
  await using host = await TestHost.start({ journalDirectory: join(folder, 'missing') });
  const guest = await host.guest();
  const disk = await guest.connect();
  await disk.write(0, new Uint8Array(PAGE));
  unsubscribe('xen-block:journal:failed', listener);
  expect(told).toMatchObject([{ queue: 0, error: { code: 'ERR_JOURNAL' } }]);
  await disk.close();
});
