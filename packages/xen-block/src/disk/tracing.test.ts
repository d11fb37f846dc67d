import { rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, BlkifStatus, RequestWriter } from '@xenpv/blkif';
import { memoryImage } from '@xenpv/blockdev';
import { expect, it, onTestFinished } from 'vitest';
import type { XenBlockBackendOptions } from '../options.js';
import { RECORD_WORDS, RecordWord, TRACE_POINTS } from '../plane/trace/trace-buffer.js';
import { GatedImage } from '../testing/gated-image.js';
import { TestHost } from '../testing/host.js';
import { indirects } from '../testing/indirect-requests.js';
import { DiskTracing, type TraceBatch } from './tracing.js';

async function startHost(options: Partial<XenBlockBackendOptions> = {}): Promise<TestHost> {
  const host = await TestHost.start(options);
  onTestFinished(() => host[Symbol.asyncDispose]());
  return host;
}

/** `point operation sector sectors status queue` of each record. */
function words({ records }: TraceBatch): string[] {
  return recordsOf(records).map((record) => {
    const value = (word: keyof typeof RecordWord) => record[RecordWord[word]];
    const values = [value('operation'), value('sector'), value('sectors'), value('status'), value('queue')];
    return [TRACE_POINTS[value('point')], ...values].join(' ');
  });
}

function recordsOf(records: Float64Array): Float64Array[] {
  return Array.from({ length: records.length / RECORD_WORDS }, (_, i) =>
    records.subarray(i * RECORD_WORDS, (i + 1) * RECORD_WORDS),
  );
}

const READ_AT_16 = ['taken 0 16 8 0 0', 'storage 0 16 8 0 0', 'done 0 16 8 0 0', 'pushed 0 16 8 0 0'];

it.each([0, 1])('a trace has the four points of each request while it is open, with %s threads', async (threads) => {
  const host = await startHost({ threads });
  const guest = await host.guest();
  const disk = await guest.connect();
  await disk.read(0, 4096);
  const trace = await host.device.trace();
  await disk.read(8192, 4096);
  const batch = trace.read(100);
  expect(words(batch)).toEqual(READ_AT_16);
  expect([batch.lost, batch.ended]).toEqual([0, false]);
  const records = recordsOf(batch.records);
  const times = records.map((record) => record[RecordWord.time]);
  expect(times).toEqual([...times].sort((a, b) => a - b));
  expect(Math.abs(Date.now() - times[0])).toBeLessThan(60_000);
  const latencies = records.map((record) => record[RecordWord.latency]);
  expect(latencies[0]).toBe(-1);
  expect(latencies[3]).toBeCloseTo(times[3] - times[0], 1);
  expect(new Set(records.map((record) => record[RecordWord.request]))).toEqual(new Set([0]));
  trace[Symbol.dispose]();
  trace[Symbol.dispose]();
  await disk.read(0, 4096);
  expect(trace.read(100).records).toHaveLength(0);
  await disk.close();
});

it('a trace goes on over a reconnection, from the first request on, and ends with the disk', async () => {
  const host = await startHost();
  const guest = await host.guest();
  const disk = await guest.connect();
  using trace = await host.device.trace();
  await disk.close();
  const again = await guest.reconnect();
  await again.read(8192, 4096);
  expect(words(trace.read(100))).toEqual(READ_AT_16);
  await again.read(8192, 4096);
  await again.close();
  await guest.detach();
  await expect.poll(() => host.device).toBeUndefined();
  // What is left is read first.
  expect(trace.read(2)).toMatchObject({ ended: false });
  expect(trace.read(100)).toMatchObject({ ended: true, lost: 0 });
  expect(trace.read(100)).toMatchObject({ ended: true });
});

it('what the storage does not answer is seen at the storage, and a request that it has had before the trace has no times', async () => {
  const host = await startHost();
  const guest = await host.guest();
  const image = new GatedImage(memoryImage({ size: 1024 * 1024 }));
  host.images.set('disk', () => image);
  const disk = await guest.connect();
  const early = disk.read(0, 4096);
  await expect.poll(() => image.log.length).toBe(1);
  using trace = await host.device.trace();
  const late = disk.read(8192, 4096);
  await expect.poll(() => image.log.length).toBe(2);
  expect(words(trace.read(100))).toEqual(READ_AT_16.slice(0, 2));
  image.release();
  await Promise.all([early, late]);
  const seen = trace.read(100);
  expect(words(seen).sort()).toEqual(
    ['done 0 0 8 0 0', 'done 0 16 8 0 0', 'pushed 0 0 8 0 0', 'pushed 0 16 8 0 0'].sort(),
  );
  const unknown = recordsOf(seen.records).filter((record) => record[RecordWord.request] === -1);
  expect(unknown.map((record) => [record[RecordWord.sector], record[RecordWord.latency]])).toEqual([
    [0, -1],
    [0, -1],
  ]);
  await disk.close();
});

it('a request that is refused is told with what it asked for, and never at the storage', async () => {
  const host = await startHost();
  const guest = await host.guest();
  const disk = await guest.connect();
  const raw = rawQueue(disk);
  using trace = await host.device.trace();
  const page = raw.page();
  const request = new RequestWriter(new Int32Array(raw.abi.slotWords), raw.abi);
  request.readWrite(BlkifOp.write, 1, 7, 0, 1_000_000);
  request.segment(0, page.gref, 0, 7);
  await raw.request(request.words);
  const error = BlkifStatus.error;
  expect(words(trace.read(100))).toEqual([
    'taken 1 1000000 8 0 0',
    `done 1 1000000 8 ${error} 0`,
    `pushed 1 1000000 8 ${error} 0`,
  ]);
  page.release();
  await disk.close();
});

it('how much an indirect request moves is known when its segments were read', async () => {
  const host = await startHost();
  const guest = await host.guest();
  const disk = await guest.connect();
  const raw = rawQueue(disk);
  using trace = await host.device.trace();
  const answers = indirects(raw, BlkifOp.read, 1, 20);
  raw.push();
  await Promise.all(answers);
  expect(words(trace.read(100))).toEqual([
    'taken 0 0 -1 0 0',
    'storage 0 0 160 0 0',
    'done 0 0 160 0 0',
    'pushed 0 0 160 0 0',
  ]);
  await disk.close();
});

it('two readers get all, each at its own pace, and a slow one is told what it has lost', async () => {
  const host = await startHost();
  const guest = await host.guest();
  const disk = await guest.connect();
  using slow = await host.device.trace();
  using quick = await host.device.trace();
  let quickly = 0;
  for (let round = 0; round < 115; round++) {
    await Promise.all(Array.from({ length: 32 }, (_, i) => disk.read(4096 * i, 4096)));
    const batch = quick.read(1000);
    quickly += batch.records.length / RECORD_WORDS;
    expect(batch.lost).toBe(0);
  }
  const all = 115 * 32 * 4;
  expect(quickly).toBe(all);
  const batch = slow.read(100_000);
  expect(batch.lost).toBe(all - batch.records.length / RECORD_WORDS);
  expect(batch.lost).toBeGreaterThan(0);
  await disk.close();
});

it('a signal ends the wait for rings that do not begin to write, and nobody reads then', async () => {
  const tracing = new DiskTracing(() => new Promise(() => {}));
  const abort = new AbortController();
  const opening = tracing.open(abort.signal);
  expect(tracing.memoryOf(0)).toBeDefined();
  abort.abort(new Error('enough'));
  await expect(opening).rejects.toThrow('enough');
  expect(tracing.memoryOf(0)).toBeUndefined();
  await expect(tracing.open(abort.signal)).rejects.toThrow('enough');
  expect(tracing.memoryOf(0)).toBeUndefined();
});
