import { constants } from 'node:os';
import type { Blkfront } from '@xenpv/blkfront';
import { rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, BlkifStatus, RequestWriter } from '@xenpv/blkif';
import { memoryImage } from '@xenpv/blockdev';
import { type Misreport, misreportingImage } from '@xenpv/blockdev/testing';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type PlaneRestedEvent, restedChannel } from '../../diagnostics.js';
import { TestHost } from '../../testing/host.js';

vi.setConfig({ testTimeout: 30_000 });

const PAGE = 4096;
const SECTORS = PAGE / 512;
const SIZE = 1024 * 1024;

type Lie = (length: number, result: number) => Misreport;

const WRONG: [string, Lie][] = [
  ['too few bytes', (length) => ({ results: [Math.max(1, length - 512)] })],
  ['none of them', (length) => ({ results: [length > 0 ? 0 : 1] })],
  ['a byte too few', (length) => ({ results: [length > 0 ? length - 1 : 1] })],
  ['too many bytes', (length) => ({ results: [length + 512] })],
  ['the most that there is', () => ({ results: [2 ** 31 - 1] })],
  ['the least that there is', () => ({ results: [-(2 ** 31)] })],
  ['an errno that is none', () => ({ results: [-4096] })],
];

interface Setting {
  readonly host: TestHost;
  readonly disk: Blkfront;
  /** Of the storage. */
  readonly content: Uint8Array;
  /** Undefined: the truth. */
  lie: Lie | undefined;
}

async function setting(options: Parameters<typeof TestHost.start>[0] = {}): Promise<Setting> {
  const broken: string[] = [];
  const onRested = (event: unknown) => {
    const text = (event as PlaneRestedEvent).broken();
    if (text !== undefined) broken.push(text);
  };
  restedChannel.subscribe(onRested);
  const host = await TestHost.start(options);
  const memory = memoryImage({ data: new Uint8Array(SIZE).fill(9) });
  const image = misreportingImage(memory, ({ length, result }) => state.lie?.(length, result));
  host.images.set('disk', () => image);
  const guest = await host.guest();
  const disk = await guest.connect({ ringPageOrder: 0 });
  const state: Setting = { host, disk, content: new Uint8Array(memory.data), lie: undefined };
  onTestFinished(async () => {
    await disk.close();
    await host[Symbol.asyncDispose]();
    restedChannel.unsubscribe(onRested);
    expect(broken).toEqual([]);
  });
  return state;
}

/** One raw request for a page at sector 0; returns its status and what is in the guest's page, which was all 1. */
async function ask(disk: Blkfront, operation: number): Promise<{ status: number; page: Uint8Array }> {
  const raw = rawQueue(disk);
  const page = raw.page();
  page.bytes.fill(1);
  const words = new Int32Array(raw.abi.slotWords);
  const writer = new RequestWriter(words, raw.abi);
  if (operation === BlkifOp.discard) writer.discard(0, 5, 0, 0, SECTORS);
  else {
    writer.readWrite(operation, 1, 5, 0, 0);
    writer.segment(0, page.gref, 0, SECTORS - 1);
  }
  const { status } = await raw.request(words);
  const bytes = page.bytes.slice();
  page.release();
  return { status, page: bytes };
}

describe.each(WRONG)('an engine that says %s', (_name, lie) => {
  it.each([
    ['read', BlkifOp.read],
    ['write', BlkifOp.write],
    ['barrier', BlkifOp.writeBarrier],
    ['flush with data', BlkifOp.flushDiskcache],
    ['discard', BlkifOp.discard],
  ])('of a %s fails it, and nothing of the buffer gets to the guest', async (_operation, operation) => {
    const state = await setting();
    state.lie = (length, result) => lie(operation === BlkifOp.discard ? 0 : length, result);
    const { status, page } = await ask(state.disk, operation);
    expect(status).toBe(BlkifStatus.error);
    expect(page.every((byte) => byte === 1)).toBe(true);
    const { inexact, read, write, flush, discard } = state.host.device.statistics();
    expect(inexact).toBe(1);
    expect(Object.assign({}, read.errors, write.errors, flush.errors, discard.errors)).toEqual({ EIO: 1 });
    state.lie = undefined;
    expect((await ask(state.disk, operation)).status).toBe(BlkifStatus.okay);
  });
});

it('a merged call of too few bytes is done again in its parts', async () => {
  const state = await setting();
  state.lie = (length) => ({ results: [length > PAGE ? length - PAGE : length] });
  const reads = await Promise.all(Array.from({ length: 8 }, (_, i) => state.disk.read(i * PAGE, PAGE)));
  for (const bytes of reads) expect(bytes.every((byte) => byte === 9)).toBe(true);
  expect(state.host.device.statistics().inexact).toBeGreaterThan(0);
});

it.each<[string, Lie]>([
  ['twice', (_length, result) => ({ results: [result, result] })],
  ['late once more', (_length, result) => ({ results: [result], late: [result] })],
  ['late as an error', (_length, result) => ({ results: [result], late: [-constants.errno.EIO] })],
  ['many times', (_length, result) => ({ results: [result, 0, result, -5], late: [result, 7] })],
])('QEMU 36d883ba0d: operations that end %s are answered once, with the right data', async (_name, lie) => {
  const state = await setting();
  state.lie = lie;
  for (let round = 0; round < 20; round++) {
    const value = round + 1;
    const bytes = new Uint8Array(PAGE * 3).fill(value);
    await Promise.all([state.disk.write(0, bytes), state.disk.read(PAGE * 8, PAGE), state.disk.flush()]);
    const [large, small] = await Promise.all([state.disk.read(0, PAGE * 3), state.disk.read(PAGE * 8, PAGE)]);
    expect(large.every((byte) => byte === value)).toBe(true);
    expect(small.every((byte) => byte === 9)).toBe(true);
  }
  expect(state.content.subarray(0, PAGE * 3).every((byte) => byte === 20)).toBe(true);
  expect(state.host.device.statistics()).toMatchObject({ inFlight: 0, read: { failed: 0 }, write: { failed: 0 } });
  expect(state.host.device.statistics().inexact).toBeGreaterThan(0);
});
