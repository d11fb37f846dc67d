import { randomBytes } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Blkfront } from '@xenpv/blkfront';
import { type RawQueue, type RawResponse, rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, BlkifStatus, RequestWriter } from '@xenpv/blkif';
import { type BlockFeatures, BlockOp, ImageWrapper } from '@xenpv/blockdev';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import type { OnError } from '../disk-description.js';
import type { XenBlockBackendOptions } from '../options.js';
import { FailingStorage } from '../testing/failing-image.js';
import { type TestGuest, TestHost } from '../testing/host.js';

const PAGE = 4096;
const WRITES = [BlockOp.write, BlockOp.writeFua];
const EVERYTHING = [BlockOp.read, ...WRITES, BlockOp.flush, BlockOp.discard];
const CHANNELS = [
  'xen-block:storage:error',
  'xen-block:device:stopped',
  'xen-block:device:resumed',
  'xen-block:storage:stalled',
  'xen-block:storage:recovered',
] as const;
type Channel = (typeof CHANNELS)[number];

let host: TestHost;
let guest: TestGuest;
let storage: FailingStorage;
let told: [channel: Channel, event: Record<string, unknown>][];

beforeEach(() => {
  told = [];
  for (const channel of CHANNELS) {
    const listener = (event: unknown) => told.push([channel, event as Record<string, unknown>]);
    subscribe(channel, listener);
    onTestFinished(() => void unsubscribe(channel, listener));
  }
});

afterEach(async () => {
  storage.mend();
  await host.device?.resume();
  await host[Symbol.asyncDispose]();
});

async function start(onError: OnError, options: Partial<XenBlockBackendOptions> = {}): Promise<Blkfront> {
  host = await TestHost.start({ onError, ...options });
  storage = new FailingStorage();
  host.images.set('disk', () => storage.image());
  guest = await host.guest();
  return guest.connect();
}

const events = (channel: Channel) => told.filter(([name]) => name === channel).map(([, event]) => event);
const stopped = () => vi.waitFor(() => expect(host.device.stopped).toBeDefined());
const backPath = () => `/local/domain/0/backend/qdisk/${guest.domid}/51712`;
const backendIs = (state: number) =>
  host.store.waitFor(async (ops) => ((await ops.tryRead(`${backPath()}/state`)) === String(state) ? true : undefined));

/** Puts requests of a page each, writes filled with the page's number, and pushes them together. */
function together(raw: RawQueue, requests: readonly [operation: number, page: number][]): Answer[] {
  const answers = requests.map(([operation, page]) => {
    const data = raw.page();
    data.bytes.fill(page);
    const words = new Int32Array(raw.abi.slotWords);
    const request = new RequestWriter(words, raw.abi);
    request.readWrite(operation, 1, page, 0, page * 8);
    request.segment(0, data.gref, 0, 7);
    return new Answer(raw.put(words));
  });
  raw.push();
  return answers;
}

/** An image whose writes are in a cache that forgets what it could not write. */
class CachedImage extends ImageWrapper {
  override get features(): BlockFeatures {
    return { ...this.inner.features, repeatableFlush: false };
  }
}

/** The answer to a request. */
class Answer {
  status: number | undefined;
  readonly #response: Promise<RawResponse>;

  constructor(response: Promise<RawResponse>) {
    this.#response = response;
    response.then(
      ({ status }) => {
        this.status = status;
      },
      // The frontend was closed.
      () => {},
    );
  }

  async given(): Promise<number> {
    return (await this.#response).status;
  }
}

const page = (n: number) => storage.bytes.subarray(n * PAGE, (n + 1) * PAGE);
const isWritten = (n: number) => page(n).every((byte) => byte === n);
const given = (answers: Answer[]) => Promise.all(answers.map((answer) => answer.given()));

describe('an error of the storage', () => {
  it.each([
    ['read', BlockOp.read, (disk: Blkfront) => disk.read(8192, PAGE), { offset: 8192, length: PAGE }],
    ['write', BlockOp.write, (disk: Blkfront) => disk.write(8192, randomBytes(512)), { offset: 8192, length: 512 }],
    ['flush', BlockOp.flush, (disk: Blkfront) => disk.flush(), { offset: 0, length: 0 }],
    ['discard', BlockOp.discard, (disk: Blkfront) => disk.discard(0, 65536), { offset: 0, length: 65536 }],
    [
      'barrier',
      BlockOp.writeFua,
      (disk: Blkfront) => disk.write(512, randomBytes(512), { mode: 'barrier' }),
      { offset: 512, length: 512 },
    ],
  ] as const)('of a %s is told with its errno and place, and counted by errno', async (operation, op, act, place) => {
    const disk = await start('report');
    storage.fail('EIO', [op]);
    await expect(act(disk)).rejects.toThrow();
    const { address } = host.device;
    expect(events('xen-block:storage:error')).toEqual([{ address, operation, errno: 'EIO', ...place, count: 1 }]);
    const kind = operation === 'barrier' ? 'write' : operation;
    expect(host.device.statistics()[kind]).toMatchObject({ errors: { EIO: 1 }, failed: 1 });
    expect(host.device.stopped).toBeUndefined();
    storage.mend();
    await disk.close();
  });

  it('is told at most once a second for each ring, with how many there were', async () => {
    const disk = await start('report');
    storage.fail('ENOSPC', WRITES);
    for (let i = 0; i < 20; i++) await expect(disk.write(0, randomBytes(512))).rejects.toThrow();
    expect(events('xen-block:storage:error').length).toBeLessThan(3);
    expect(host.device.statistics().write.errors).toEqual({ ENOSPC: 20 });
    await disk.close();
  });

  it('is not what a guest asked wrongly', async () => {
    const disk = await start('stop');
    const raw = rawQueue(disk);
    expect(
      await given(
        together(raw, [
          [BlkifOp.read, 100_000],
          [77, 0],
        ]),
      ),
    ).toEqual([BlkifStatus.error, BlkifStatus.eopnotsupp]);
    expect(told).toEqual([]);
    expect(host.device.statistics().read.errors).toEqual({});
    await disk.close();
  });

  it('of one part of a merged call is that part’s alone', async () => {
    const disk = await start('stop');
    storage.fail('EIO', WRITES, 2 * PAGE + 1);
    const answers = together(
      rawQueue(disk),
      [0, 1, 2].map((n) => [BlkifOp.write, n]),
    );
    await stopped();
    expect(await given(answers.slice(0, 2))).toEqual([0, 0]);
    expect(answers[2].status).toBeUndefined();
    storage.mend();
    await host.device.resume();
    expect(await given(answers)).toEqual([0, 0, 0]);
    expect(isWritten(2)).toBe(true);
    await disk.close();
  });
});

describe('a disk that stops at errors', () => {
  it.each([
    ['stop', 'EIO', true],
    ['stop', 'ENOSPC', true],
    ['stop-on-enospc', 'ENOSPC', true],
    ['stop-on-enospc', 'EDQUOT', true],
    ['stop-on-enospc', 'EIO', false],
    ['report', 'ENOSPC', false],
  ] as const)('%s: at %s %s', async (policy, errno, stops) => {
    const disk = await start(policy);
    storage.fail(errno, WRITES);
    const write = disk.write(0, new Uint8Array(PAGE).fill(5));
    if (!stops) {
      await expect(write).rejects.toThrow();
      expect(host.device.stopped).toBeUndefined();
    } else {
      await stopped();
      expect(host.device.stopped).toMatchObject({ operation: 'write', errno, offset: 0, length: PAGE });
      storage.mend();
      expect(await host.device.resume()).toBe(true);
      await write;
      expect(page(0).every((byte) => byte === 5)).toBe(true);
    }
    await disk.close();
  });

  it.each([
    ['read', BlockOp.read, (disk: Blkfront): Promise<unknown> => disk.read(0, PAGE)],
    ['write', BlockOp.write, (disk: Blkfront) => disk.write(0, randomBytes(PAGE))],
    ['indirect write', BlockOp.write, (disk: Blkfront) => disk.write(0, randomBytes(64 * PAGE))],
    ['flush', BlockOp.flush, (disk: Blkfront) => disk.flush()],
    ['discard', BlockOp.discard, (disk: Blkfront) => disk.discard(0, PAGE)],
    ['barrier', BlockOp.writeFua, (disk: Blkfront) => disk.write(0, randomBytes(PAGE), { mode: 'barrier' })],
    ['flush with data', BlockOp.flush, (disk: Blkfront) => disk.write(0, randomBytes(PAGE), { mode: 'flush' })],
  ] as const)('keeps a %s, which no guest hears of, and does it again', async (_, op, act) => {
    const disk = await start('stop');
    storage.fail('EIO', [op]);
    const done = act(disk);
    await stopped();
    const { kept, inFlight } = host.device.statistics();
    expect(kept).toBeGreaterThan(0);
    expect(inFlight).toBe(kept);
    storage.mend();
    await host.device.resume();
    await done;
    expect(host.device.stopped).toBeUndefined();
    await vi.waitFor(() => expect(host.device.statistics()).toMatchObject({ kept: 0, inFlight: 0 }));
    await disk.close();
  });

  it.each(['copy', 'map', 'persistent'] as const)('has the right data after it is resumed, by %s', async (dataPath) => {
    const disk = await start('stop', { dataPath });
    const data = randomBytes(512 * 1024);
    storage.fail('ENOSPC', WRITES, 64 * 1024);
    const write = disk.write(0, data);
    await stopped();
    storage.mend();
    await host.device.resume();
    await write;
    expect(Buffer.compare(storage.bytes.subarray(0, data.length), data)).toBe(0);
    storage.fail('EIO', [BlockOp.read], 128 * 1024);
    const read = disk.read(0, data.length);
    await stopped();
    storage.mend();
    await host.device.resume();
    expect(Buffer.compare(await read, data)).toBe(0);
    await disk.close();
  });

  it('takes nothing more, and says once why and since when', async () => {
    const disk = await start('stop');
    const raw = rawQueue(disk);
    storage.fail('EIO', WRITES);
    const before = new Date();
    const first = together(raw, [
      [BlkifOp.write, 1],
      [BlkifOp.write, 9],
    ]);
    await stopped();
    storage.mend();
    const behind = together(raw, [
      [BlkifOp.write, 20],
      [BlkifOp.read, 30],
    ]);
    await vi.waitFor(() => expect(host.device.statistics().kept).toBe(2));
    expect(host.device.statistics().inFlight).toBe(2);
    expect([...first, ...behind].map(({ status }) => status)).toEqual([undefined, undefined, undefined, undefined]);
    const { address } = host.device;
    expect(events('xen-block:device:stopped')).toMatchObject([{ address, stop: { errno: 'EIO', operation: 'write' } }]);
    expect(host.device.stopped!.since.getTime()).toBeGreaterThanOrEqual(before.getTime());
    await host.device.resume();
    expect(await given([...first, ...behind])).toEqual([0, 0, 0, 0]);
    expect([1, 9, 20].every(isWritten)).toBe(true);
    expect(events('xen-block:device:resumed')).toEqual([{ address, by: 'resume' }]);
    await disk.close();
  });

  it('stops again when what it does again fails again', async () => {
    const disk = await start('stop');
    storage.fail('EIO', WRITES);
    const answers = together(rawQueue(disk), [
      [BlkifOp.write, 1],
      [BlkifOp.write, 9],
    ]);
    for (let round = 1; round <= 3; round++) {
      await vi.waitFor(() => expect(events('xen-block:device:stopped')).toHaveLength(round));
      expect(await host.device.resume()).toBe(true);
    }
    await stopped();
    expect(answers.map(({ status }) => status)).toEqual([undefined, undefined]);
    storage.mend();
    await host.device.resume();
    expect(await given(answers)).toEqual([0, 0]);
    expect([1, 9].every(isWritten)).toBe(true);
    await disk.close();
  });

  it('is resumed once: the second says that it was not stopped, and so does one on a disk that never was', async () => {
    const disk = await start('stop');
    expect(await host.device.resume()).toBe(false);
    storage.fail('EIO', WRITES);
    const write = disk.write(0, randomBytes(PAGE));
    await stopped();
    storage.mend();
    expect(await Promise.all([host.device.resume(), host.device.resume()])).toEqual([true, false]);
    await write;
    expect(events('xen-block:device:resumed')).toHaveLength(1);
    await disk.close();
  });

  it('may be resumed by whoever hears that it stopped', async () => {
    const disk = await start('stop');
    storage.fail('EIO', WRITES);
    const resume = () => {
      storage.mend();
      void host.device.resume();
    };
    subscribe('xen-block:device:stopped', resume);
    onTestFinished(() => void unsubscribe('xen-block:device:stopped', resume));
    await disk.write(0, randomBytes(PAGE));
    await disk.close();
  });

  it('keeps a barrier in its place: behind the write that failed, before what came later', async () => {
    const disk = await start('stop');
    const raw = rawQueue(disk);
    storage.fail('EIO', [BlockOp.write]);
    const answers = together(raw, [
      [BlkifOp.write, 1],
      [BlkifOp.write, 20],
      [BlkifOp.writeBarrier, 5],
      [BlkifOp.write, 40],
    ]);
    await stopped();
    await vi.waitFor(() => expect(host.device.statistics().kept).toBe(3));
    expect(page(5).every((byte) => byte === 0)).toBe(true);
    // The write behind the barrier is still in the ring.
    expect(host.device.statistics().inFlight).toBe(3);
    await host.device.resume();
    await stopped();
    expect(page(5).every((byte) => byte === 0)).toBe(true);
    storage.mend();
    await host.device.resume();
    expect(await given(answers)).toEqual([0, 0, 0, 0]);
    expect([1, 20, 5, 40].every(isWritten)).toBe(true);
    await disk.close();
  });

  it('keeps a barrier that has waited for memory while the disk stopped, and a drain ends', async () => {
    const disk = await start('stop', { memoryBytes: 256 * 1024, limits: { maxIndirectSegments: 32 } });
    const large = randomBytes(32 * PAGE);
    storage.fail('EIO', [BlockOp.write], 600 * 1024);
    storage.delay(20);
    const writes = [disk.write(600 * 1024, large), ...[0, 1, 2].map((n) => disk.write(n * large.length, large))];
    const barrier = disk.write(500 * 1024, large.subarray(0, PAGE), { mode: 'barrier' });
    await vi.waitFor(() => expect(host.device.statistics()).toMatchObject({ kept: 2, inFlight: 2 }));
    expect(host.device.statistics().starved).toBeGreaterThan(0);
    await host.device.drain();
    host.device.undrain();
    storage.mend();
    await host.device.resume();
    await Promise.all([...writes, barrier]);
    expect(Buffer.compare(storage.bytes.subarray(600 * 1024, 600 * 1024 + large.length), large)).toBe(0);
    await disk.close();
  });

  it('keeps a barrier whose own write failed, and nothing behind it is taken', async () => {
    const disk = await start('stop');
    const raw = rawQueue(disk);
    storage.fail('ENOSPC', [BlockOp.writeFua]);
    const answers = together(raw, [
      [BlkifOp.writeBarrier, 5],
      [BlkifOp.write, 40],
    ]);
    await stopped();
    expect(host.device.statistics()).toMatchObject({ kept: 1, inFlight: 1 });
    storage.mend();
    await host.device.resume();
    expect(await given(answers)).toEqual([0, 0]);
    await disk.close();
  });

  it('takes no memory from the others', async () => {
    const disk = await start('stop', { memoryBytes: 512 * 1024, limits: { maxIndirectSegments: 64 } });
    storage.fail('EIO', WRITES);
    const data = randomBytes(1024 * 1024);
    const writes = disk.write(0, data);
    await stopped();
    const other = await host.guest();
    const well = new FailingStorage();
    host.images.set('well', () => well.image());
    const otherDisk = await other.connect({}, { target: 'well' });
    await otherDisk.write(0, data);
    expect(Buffer.compare(well.bytes, data)).toBe(0);
    await otherDisk.close();
    storage.mend();
    await host.device.resume();
    await writes;
    expect(Buffer.compare(storage.bytes, data)).toBe(0);
    await disk.close();
  });

  it('stops with all its rings, on all threads, and goes on with all', async () => {
    const disk = await start('stop', { threads: 2, limits: { maxQueues: 3 } });
    await disk.close();
    const queues = await guest.reconnect({ queues: 3 });
    expect(queues.queues).toBe(3);
    for (let round = 1; round <= 5; round++) {
      storage.fail('ENOSPC', WRITES);
      const bad = [0, 1, 2].flatMap((queue) =>
        together(
          rawQueue(queues, queue),
          [10, 20, 30].map((n) => [BlkifOp.write, n + queue]),
        ),
      );
      await stopped();
      // A ring that was slower has taken nothing.
      await vi.waitFor(() => {
        const { kept, inFlight } = host.device.statistics();
        expect(kept).toBe(inFlight);
      });
      const reads = [0, 1, 2].flatMap((queue) => together(rawQueue(queues, queue), [[BlkifOp.read, queue]]));
      // Resumed too early, it stops again, wherever the news of the first stop are.
      await host.device.resume();
      await stopped();
      storage.mend();
      await vi.waitFor(async () => {
        await host.device.resume();
        expect(await Promise.race([given([...bad, ...reads]), delayed()])).toEqual(Array(12).fill(0));
      });
      expect([0, 1, 2].every((queue) => [10, 20, 30].every((n) => isWritten(n + queue)))).toBe(true);
      expect(host.device.stopped).toBeUndefined();
      storage.bytes.fill(0);
    }
    await queues.close();
  });

  it('asks nobody twice: a flush that would only seem to succeed the next time is answered', async () => {
    const disk = await start('stop');
    await disk.close();
    await guest.detach();
    host.images.set('disk', () => new CachedImage(storage.image()));
    const again = await guest.connect();
    storage.fail('EIO', [BlockOp.flush]);
    await expect(again.flush()).rejects.toThrow();
    expect(host.device.stopped).toBeUndefined();
    expect(events('xen-block:storage:error')).toMatchObject([{ operation: 'flush', errno: 'EIO' }]);
    storage.mend();
    await again.close();
  });
});

it('a flush after which writes are known to be gone is answered with the error, whatever the policy', async () => {
  const disk = await start('stop');
  storage.fail(130, [BlockOp.flush]);
  await expect(disk.flush()).rejects.toThrow();
  await expect(disk.write(0, randomBytes(PAGE), { mode: 'barrier' })).rejects.toThrow();
  expect(host.device.stopped).toBeUndefined();
  expect(host.device.statistics()).toMatchObject({ flush: { errors: { EOWNERDEAD: 1 } } });
  storage.mend();
  await disk.close();
});

/** What a moment later is not there is not coming. */
function delayed(): Promise<string> {
  return new Promise((resolve) => setTimeout(resolve, 200, 'nothing'));
}

describe('while a disk is stopped', () => {
  /** A disk with one write of each of these pages kept. */
  async function stoppedDisk(
    options: Partial<XenBlockBackendOptions> = {},
  ): Promise<{ disk: Blkfront; answers: Answer[] }> {
    const disk = await start('stop', options);
    storage.fail('ENOSPC', EVERYTHING);
    const answers = together(rawQueue(disk), [
      [BlkifOp.write, 1],
      [BlkifOp.write, 9],
      [BlkifOp.write, 30],
    ]);
    await stopped();
    await vi.waitFor(() => expect(host.device.statistics().kept).toBe(3));
    storage.mend();
    return { disk, answers };
  }

  it('a drain ends: nothing is in flight at the storage', async () => {
    const { disk, answers } = await stoppedDisk();
    await host.device.drain();
    host.device.undrain();
    expect(answers.map(({ status }) => status)).toEqual([undefined, undefined, undefined]);
    await host.device.resume();
    expect(await given(answers)).toEqual([0, 0, 0]);
    await disk.close();
  });

  it('and drained, a resume does nothing before the drain is over', async () => {
    const { disk, answers } = await stoppedDisk();
    await host.device.drain();
    expect(await host.device.resume()).toBe(true);
    expect(await Promise.race([given(answers), delayed()])).toBe('nothing');
    expect(storage.bytes.every((byte) => byte === 0)).toBe(true);
    host.device.undrain();
    expect(await given(answers)).toEqual([0, 0, 0]);
    expect([1, 9, 30].every(isWritten)).toBe(true);
    await disk.close();
  });

  it('a frontend that closes gets the errors, and connects anew', async () => {
    await stoppedDisk();
    await guest.store.write(`/local/domain/${guest.domid}/device/vbd/51712/state`, '5');
    await vi.waitFor(() => expect(host.device.stopped).toBeUndefined());
    expect(events('xen-block:device:resumed')).toMatchObject([{ by: 'disconnect' }]);
    expect(host.device.statistics()).toMatchObject({ kept: 0, inFlight: 0, write: { failed: 3 } });
    await backendIs(6);
    const disk = await guest.reconnect();
    await disk.write(0, randomBytes(PAGE));
    await disk.close();
  });

  it('a domain that is destroyed goes', async () => {
    const { answers } = await stoppedDisk();
    await guest.destroy();
    await vi.waitFor(() => expect([...host.backend.devices]).toEqual([]));
    expect(events('xen-block:device:resumed')).toMatchObject([{ by: 'disconnect' }]);
    expect(answers).toHaveLength(3);
  });

  it('the toolstack can take the disk away', async () => {
    const { disk } = await stoppedDisk();
    await guest.detach();
    await disk.closed.catch(() => {});
    expect([...host.backend.devices]).toEqual([]);
    expect(events('xen-block:device:resumed')).toMatchObject([{ by: 'disconnect' }]);
  });

  it('a queue stays where it is, and says why', async () => {
    const { disk, answers } = await stoppedDisk({ threads: 1 });
    await expect(host.device.moveQueue(0, host.backend.hosts[0])).rejects.toMatchObject({ code: 'EBUSY', op: 'move' });
    await host.device.resume();
    expect(await given(answers)).toEqual([0, 0, 0]);
    await host.device.moveQueue(0, host.backend.hosts[0]);
    await disk.close();
  });

  it('and drained, a queue that cannot move goes on like the others', async () => {
    const { disk, answers } = await stoppedDisk({ threads: 1 });
    await host.device.drain();
    await expect(host.device.moveQueue(0, host.backend.hosts[0])).rejects.toMatchObject({ code: 'EBUSY' });
    host.device.undrain();
    await host.device.resume();
    expect(await given(answers)).toEqual([0, 0, 0]);
    await disk.close();
  });

  it.each([0, 1])(
    'a backend that stops leaves the requests to the next, which does them (%i threads)',
    async (threads) => {
      const journalDirectory = mkdtempSync(join(tmpdir(), 'on-error-'));
      onTestFinished(() => rmSync(journalDirectory, { recursive: true }));
      const { disk, answers } = await stoppedDisk({ journalDirectory, threads });
      const behind = together(rawQueue(disk), [[BlkifOp.write, 50]]);
      await host.backend.close();

      expect(events('xen-block:device:resumed')).toMatchObject([{ by: 'leave' }]);
      expect(answers.map(({ status }) => status)).toEqual([undefined, undefined, undefined]);
      storage.fail('ENOSPC', WRITES);
      await host.startBackend();
      await stopped();
      expect(answers.map(({ status }) => status)).toEqual([undefined, undefined, undefined]);
      await host.backend.close();
      storage.mend();
      await host.startBackend();
      expect(await given([...answers, ...behind])).toEqual([0, 0, 0, 0]);
      expect([1, 9, 30, 50].every(isWritten)).toBe(true);
      await disk.close();
      await vi.waitFor(() => expect(readdirSync(journalDirectory)).toEqual([]));
    },
  );

  it('a backend that stops without a journal answers with the errors', async () => {
    const { disk, answers } = await stoppedDisk();
    await host.backend.close();
    expect(await given(answers)).toEqual(Array(3).fill(BlkifStatus.error));
    await host.startBackend();
    expect(await disk.read(0, PAGE)).toHaveLength(PAGE);
    await disk.close();
  });

  it('a drive may get another medium, and does the rest on that one', async () => {
    host = await TestHost.start({ onError: 'stop' });
    storage = new FailingStorage();
    const good = new FailingStorage();
    good.bytes.fill(7);
    host.images.set('scratched', () => storage.image());
    host.images.set('good', () => good.image());
    guest = await host.guest();
    const disk = await guest.connect({}, { deviceType: 'cdrom', readOnly: true, target: 'scratched' });
    storage.fail('EIO', [BlockOp.read]);
    const read = disk.read(0, PAGE);
    await stopped();
    await host.store.write(`${backPath()}/params`, 'aio:good');
    await vi.waitFor(() => expect(host.device.config?.target).toBe('good'));
    await host.device.drain();
    host.device.undrain();
    await host.device.resume();
    expect((await read).every((byte) => byte === 7)).toBe(true);
    await disk.close();
  });
});

describe('which policy', () => {
  const write = (value: string) => host.store.write(`${backPath()}/on-error`, value);
  const becomes = (policy: OnError) => vi.waitFor(() => expect(host.device.onError).toBe(policy));

  it('is that of the options, which may look at the disk', async () => {
    host = await TestHost.start({ onError: ({ target }) => (target === 'precious' ? 'stop' : 'report') });
    storage = new FailingStorage();
    guest = await host.guest();
    await guest.attach({ vdev: 'xvda', target: 'precious' });
    await guest.attach({ vdev: 'xvdb', target: 'other' });
    await vi.waitFor(() => expect([...host.backend.devices].map(({ onError }) => onError)).toEqual(['stop', 'report']));
  });

  it('is that of the key in the disk’s directory, also of one that changes while the disk is served', async () => {
    const disk = await start('report');
    await write('stop');
    await becomes('stop');
    storage.fail('EIO', WRITES);
    const answer = disk.write(0, randomBytes(PAGE));
    await stopped();
    await write('report');
    await becomes('report');
    // What is kept stays so until it is resumed.
    expect(host.device.stopped).toBeDefined();
    await host.device.resume();
    await expect(answer).rejects.toThrow();
    await host.store.remove(`${backPath()}/on-error`);
    await becomes('report');
    await disk.close();
  });

  it('that is none is told, and hurts nobody', async () => {
    const ignored: unknown[] = [];
    const listener = (event: unknown) => void ignored.push(event);
    subscribe('xen-block:device:ignored', listener);
    onTestFinished(() => void unsubscribe('xen-block:device:ignored', listener));
    const disk = await start('stop');
    await write('ignore');
    await vi.waitFor(() => expect(ignored).toHaveLength(1));
    const { address } = host.device;
    expect(ignored).toEqual([
      { address, path: `${backPath()}/on-error`, value: 'ignore', expected: 'report, stop-on-enospc, stop' },
    ]);
    expect(host.device.onError).toBe('stop');
    await host.backend.close();
    await host.startBackend();
    expect(await disk.read(0, PAGE)).toHaveLength(PAGE);
    await disk.close();
  });
});
