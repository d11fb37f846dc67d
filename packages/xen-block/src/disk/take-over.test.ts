import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Blkfront } from '@xenpv/blkfront';
import { rawQueue } from '@xenpv/blkfront/testing';
import { type BlockImage, ImageWrapper, memoryImage } from '@xenpv/blockdev';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DeviceConnectedEvent, JournalDroppedEvent } from '../diagnostics.js';
import { GatedImage } from '../testing/gated-image.js';
import { TestHost } from '../testing/host.js';
import { startKillable, writePages } from '../testing/killable.js';

const PAGE = 4096;
const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'take-over-'));
afterAll(() => rmSync(folder, { recursive: true }));

let journalDirectory: string;
beforeEach(() => {
  journalDirectory = mkdtempSync(join(folder, 'journal-'));
});

/** An image of which a test says what storage it is. */
class KnownStorage extends ImageWrapper {
  readonly #identity: string;
  readonly #size: number;

  constructor(inner: BlockImage, identity: string, size = inner.size) {
    super(inner);
    this.#identity = identity;
    this.#size = size;
  }

  override get identity(): string {
    return this.#identity;
  }

  override get size(): number {
    return this.#size;
  }
}

/** A guest with 6 writes in flight, 2 of 8 answered, whose backend is killed. */
async function killedUnderLoad(answered: readonly number[] = [70, 80]) {
  const host = await TestHost.start();
  await host.backend.close();
  const memory = memoryImage({ size: MIB });
  const gate = new GatedImage(memory);
  host.images.set('disk', () => new KnownStorage(gate, 'file 1:2'));
  const kill = await startKillable(host, journalDirectory);
  const guest = await host.guest();
  const disk = await guest.connect();
  const answers = writePages(rawQueue(disk), [10, 20, 30, 40, 50, 60, 70, 80]);
  await vi.waitFor(() => expect(gate.log).toHaveLength(8));
  gate.release(({ offset }) => answered.includes(offset / PAGE));
  await Promise.all(answers.filter((_, i) => answered.includes(10 * i + 10)));
  await kill();
  host.images.set('disk', () => new KnownStorage(memory, 'file 1:2'));
  const backend = `/local/domain/0/backend/qdisk/${guest.domid}/51712`;
  return {
    host,
    disk,
    answers,
    memory,
    journal: join(journalDirectory, `qdisk-${guest.domid}-51712-0`),
    state: () => host.store.read(`${backend}/state`),
    error: () => host.store.tryRead(`${backend.replace('backend', 'error/backend')}/error`),
    [Symbol.asyncDispose]: () => host[Symbol.asyncDispose](),
  };
}

async function allWritten(disk: Blkfront, answers: Promise<{ status: number }>[]): Promise<void> {
  expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  for (let page = 10; page <= 80; page += 10) {
    expect((await disk.read(page * PAGE, PAGE)).every((byte) => byte === page)).toBe(true);
  }
}

/** The old file stays as it is for whoever has it mapped, as the killed backend of this very process does. */
function replaceFile(path: string, text: string): void {
  rmSync(path);
  writeFileSync(path, text);
}

/** What is published on a channel while the test runs. */
function published<T>(channel: string): { events: T[]; [Symbol.dispose](): void } {
  const events: T[] = [];
  const listener = (event: unknown) => events.push(event as T);
  subscribe(channel, listener);
  return { events, [Symbol.dispose]: () => unsubscribe(channel, listener) };
}

describe('a disk whose journal is lost', () => {
  it('is held, and served when the journal is put back', async () => {
    await using world = await killedUnderLoad();
    const { host, journal, disk, answers } = world;
    const bytes = readFileSync(journal);
    rmSync(journal);
    await host.startBackend({ journalDirectory });
    await expect.poll(world.error).toContain(`the journal ${journal} is gone`);
    expect(await world.state()).toBe('4');
    expect(host.device.negotiated).toBeUndefined();
    writeFileSync(journal, bytes);
    await host.device.resume();
    await allWritten(disk, answers);
    await disk.close();
  });

  it('is held across daemons, and served without it when somebody says so', async () => {
    // Answered in the order of the ring: then it tells which requests are in flight.
    await using world = await killedUnderLoad([10, 20]);
    using dropped = published<JournalDroppedEvent>('xen-block:journal:dropped');
    const { host, journal, answers } = world;
    replaceFile(journal, 'not ours');
    for (let lives = 0; lives < 2; lives++) {
      await host.startBackend({ journalDirectory });
      await expect.poll(world.error).toContain('is cut short');
      await host.device.resume({ acceptImage: true });
      await host.device.resume();
      expect(await world.state()).toBe('4');
      expect(readFileSync(journal, 'utf8')).toBe('not ours');
      if (lives === 0) await host.backend.close();
    }
    expect(dropped.events).toEqual([]);
    await host.device.resume({ withoutJournal: true });
    await allWritten(world.disk, answers);
    expect(host.device.statistics().recovered).toBe(0);
    expect(dropped.events).toMatchObject([{ reason: expect.stringContaining('is cut short') }]);
    expect(await world.error()).toBeUndefined();
    await world.disk.close();
  });

  it('is not held when its ring has no unanswered request', async () => {
    await using host = await TestHost.start();
    await host.backend.close();
    const image = memoryImage({ size: MIB });
    host.images.set('disk', () => new KnownStorage(image, 'file 1:2'));
    const kill = await startKillable(host, journalDirectory);
    const guest = await host.guest();
    const disk = await guest.connect();
    await disk.write(0, new Uint8Array(PAGE).fill(5));
    await kill();
    replaceFile(join(journalDirectory, `qdisk-${guest.domid}-51712-0`), '');
    await host.startBackend({ journalDirectory });
    expect((await disk.read(0, PAGE))[9]).toBe(5);
    await disk.close();
  });
});

it('a backend that stopped cleanly is followed by one that serves what was asked meanwhile', async () => {
  await using host = await TestHost.start({ journalDirectory });
  const guest = await host.guest();
  const disk = await guest.connect({ queues: 1 });
  await disk.write(0, new Uint8Array(PAGE).fill(1));
  await host.backend.close();
  expect(readdirSync(journalDirectory)).toHaveLength(2);
  const answers = writePages(rawQueue(disk), [10, 20]);
  using connected = published<DeviceConnectedEvent>('xen-block:device:connected');
  await host.startBackend();
  expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([0, 0]);
  expect(connected.events).toMatchObject([{ adopted: true, recovered: 0 }]);
  await disk.close();
  await vi.waitFor(() => expect(readdirSync(journalDirectory)).toEqual([]));
});

it('tells how many requests were recovered', async () => {
  await using world = await killedUnderLoad();
  using connected = published<DeviceConnectedEvent>('xen-block:device:connected');
  await world.host.startBackend({ journalDirectory });
  await allWritten(world.disk, world.answers);
  expect(connected.events).toMatchObject([{ adopted: true, recovered: 6 }]);
  expect(world.host.device.statistics().recovered).toBe(6);
  await world.disk.close();
});

describe('a disk whose image', () => {
  const cases: [name: string, storage: (memory: BlockImage) => BlockImage, problem: RegExp][] = [
    ['is another one', (memory) => new KnownStorage(memory, 'file 1:3'), /file 1:3.*another one.*file 1:2/],
    ['is a device now', (memory) => new KnownStorage(memory, 'device 7:0'), /device 7:0.*another one.*file 1:2/],
    [
      'is shorter',
      (memory) => new KnownStorage(memory, 'file 1:2', MIB - PAGE),
      /1044480 bytes\) is shorter than .*1048576 bytes/,
    ],
  ];

  it.each(cases)('%s is held, until the image is back', async (_name, storage, problem) => {
    await using world = await killedUnderLoad();
    const { host, memory } = world;
    host.images.set('disk', () => storage(memory));
    await host.startBackend({ journalDirectory });
    await expect.poll(world.error).toMatch(problem);
    expect(await world.error()).toContain('--accept-image');
    expect(await world.state()).toBe('4');
    host.images.set('disk', () => new KnownStorage(memory, 'file 1:2'));
    await host.device.resume();
    await allWritten(world.disk, world.answers);
    await world.disk.close();
  });

  it('was being made shorter is served as it is by then', async () => {
    await using host = await TestHost.start();
    await host.backend.close();
    let askedFor: number | undefined;
    class Shrinking extends KnownStorage {
      override get resize() {
        return (bytes: number) => {
          askedFor = bytes;
          return new Promise<void>(() => {});
        };
      }
    }
    host.images.set('disk', () => new Shrinking(memoryImage({ size: MIB }), 'file 1:2'));
    const kill = await startKillable(host, journalDirectory);
    const disk = await (await host.guest()).connect();
    void host.device.resize(MIB / 2);
    expect(askedFor).toBe(MIB / 2);
    await kill();
    host.images.set('disk', () => new KnownStorage(memoryImage({ size: MIB / 2 }), 'file 1:2'));
    await host.startBackend({ journalDirectory });
    await expect.poll(() => disk.size).toBe(MIB / 2);
    await disk.write(0, new Uint8Array(PAGE).fill(1));
    await disk.close();
  });

  it('is another one is served with it when somebody says so, and from then on only with that', async () => {
    await using world = await killedUnderLoad();
    const { host, memory } = world;
    host.images.set('disk', () => new KnownStorage(memory, 'file 1:3'));
    await host.startBackend({ journalDirectory });
    await expect.poll(world.error).toContain('file 1:3');
    await host.device.resume({ withoutJournal: true });
    expect(await world.state()).toBe('4');
    await host.device.resume({ acceptImage: true });
    await allWritten(world.disk, world.answers);
    await host.backend.close();
    host.images.set('disk', () => new KnownStorage(memory, 'file 1:2'));
    await host.startBackend({ journalDirectory });
    await expect.poll(world.error).toMatch(/file 1:2.*another one.*file 1:3/);
    host.images.set('disk', () => new KnownStorage(memory, 'file 1:3'));
    await host.device.resume();
    await world.disk.close();
  });

  it('is longer, or has another name, is served', async () => {
    await using world = await killedUnderLoad();
    const { host } = world;
    const longer = memoryImage({ size: 2 * MIB });
    host.images.set('disk', () => new KnownStorage(longer, 'file 1:2'));
    await host.startBackend({ journalDirectory });
    await Promise.all(world.answers);
    await vi.waitFor(() => expect(host.device.geometry?.sectors).toBe((2 * MIB) / 512));
    await world.disk.close();
  });

  it.each(['{', '', '{"version":2}', '{"version":1,"target":5,"identity":null,"size":1}', 'null', '[]'])(
    'is noted in a record that cannot be read, %s, is held until it is accepted',
    async (text) => {
      await using world = await killedUnderLoad();
      writeFileSync(world.journal.replace(/0$/, 'image'), text);
      await world.host.startBackend({ journalDirectory });
      await expect.poll(world.error).toContain('cannot be read');
      await world.host.device.resume({ acceptImage: true });
      await allWritten(world.disk, world.answers);
      await world.disk.close();
    },
  );
});

it('a drive may get another medium while no daemon lives', async () => {
  await using host = await TestHost.start();
  await host.backend.close();
  host.images.set('one', () => new KnownStorage(memoryImage({ size: MIB }), 'file 1:1'));
  host.images.set('two', () => new KnownStorage(memoryImage({ data: new Uint8Array(MIB / 2).fill(2) }), 'file 1:2'));
  const kill = await startKillable(host, journalDirectory);
  const guest = await host.guest();
  const disk = await guest.connect({}, { deviceType: 'cdrom', target: 'one', readOnly: true });
  await disk.read(0, 512);
  await kill();
  const backend = `/local/domain/0/backend/qdisk/${guest.domid}/51712`;
  await host.store.write(`${backend}/params`, 'aio:two');
  await host.startBackend({ journalDirectory });
  await vi.waitFor(() => expect(host.device.negotiated).toBeDefined());
  expect((await disk.read(0, 512))[0]).toBe(2);
  await disk.close();
});
