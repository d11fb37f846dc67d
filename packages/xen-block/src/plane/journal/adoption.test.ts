import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rawQueue } from '@xenpv/blkfront/testing';
import { BlockOp, type MemoryImage, memoryImage } from '@xenpv/blockdev';
import { afterAll, expect, it, vi } from 'vitest';
import type { JournalFailedEvent } from '../../diagnostics.js';
import { FailingStorage } from '../../testing/failing-image.js';
import { GatedImage } from '../../testing/gated-image.js';
import { TestHost } from '../../testing/host.js';
import { startKillable, writePages } from '../../testing/killable.js';

const PAGE = 4096;
const folder = mkdtempSync(join(tmpdir(), 'adoption-'));
afterAll(() => rmSync(folder, { recursive: true }));

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
  for (const name of ['0', '0.new', '12', 'image', 'image.new']) {
    writeFileSync(join(directory, `qdisk-77-51712-${name}`), 'of a disk that is gone');
  }

  await host.startBackend({ journalDirectory: directory });
  await vi.waitFor(() => expect(gates[1]?.log).toHaveLength(4));
  expect(gates[1].log.map(({ offset }) => offset / PAGE)).toEqual([10, 20, 30, 50]);
  expect(readdirSync(directory)).toEqual([`qdisk-${guest.domid}-51712-0`, `qdisk-${guest.domid}-51712-image`]);
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
  expect(told).toMatchObject([
    { queue: 0, error: { code: 'ERR_JOURNAL' } },
    { queue: undefined, error: { code: 'ERR_JOURNAL' } },
  ]);
  await disk.close();
});
