import { randomBytes } from 'node:crypto';
import type { Blkfront } from '@xenpv/blkfront';
import { rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, BlkifStatus, RequestWriter } from '@xenpv/blkif';
import { memoryImage, throttledImage } from '@xenpv/blockdev';
import { copyFlags, copyLength, GrantCopyFlag, GrantCopyWord, grantDomid, type XenProvider } from '@xenpv/xen-sys';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { BlockDevice } from '../../disk/disk.js';
import { GatedImage } from '../../testing/gated-image.js';
import { type TestGuest, TestHost } from '../../testing/host.js';
import { indirects } from '../../testing/indirect-requests.js';
import { replacing } from '../../testing/replacing.js';
import { watchPlane } from '../../testing/watch-plane.js';

const PAGE = 4096;
const SEGMENTS = 64;
const LARGEST = SEGMENTS * PAGE;
/** Memory for two of the largest requests, though not for their segments too. */
const MEMORY = 512 * 1024;

/** A host, and a victim with a disk in memory. All on the main thread. */
async function setting(memoryBytes = MEMORY) {
  const plane = watchPlane();
  const host = await TestHost.start({ memoryBytes, limits: { maxIndirectSegments: SEGMENTS } });
  const gate = new GatedImage(memoryImage({ size: 1024 * 1024 }));
  const disks: Blkfront[] = [];
  host.images.set('gated', () => gate);
  onTestFinished(async () => {
    gate.open = true;
    gate.release();
    await Promise.allSettled(disks.map((disk) => disk.close()));
    for (const device of host.backend.devices) {
      expect(device.statistics()).toMatchObject({ overlooked: 0, waiting: 0, inFlight: 0, bufferBytes: 0 });
    }
    await host[Symbol.asyncDispose]();
    expect(plane).toEqual({ broken: [], failed: [] });
  });
  const connect = async (guest: TestGuest, target: string, vdev = 'xvda') => {
    const disk = await guest.connect({ ringPageOrder: 3, vdev, maxIndirectSegments: SEGMENTS }, { target, vdev });
    disks.push(disk);
    return disk;
  };
  const deviceOf = (guest: TestGuest): BlockDevice => {
    const device = [...host.backend.devices].find(({ address }) => address.domid === guest.domid);
    if (!device) throw new Error(`guest ${guest.domid} has no disk`);
    return device;
  };
  const victim = await host.guest();
  return { host, gate, connect, deviceOf, victim, disk: await connect(victim, 'victim') };
}

type Setting = Awaited<ReturnType<typeof setting>>;

/** Writes and reads back the whole disk of the victim in requests of all sizes, several at a time. */
async function isServed(disk: Blkfront): Promise<void> {
  const data = randomBytes(disk.size);
  await Promise.all(
    [PAGE, LARGEST, 8 * PAGE].map((bytes, i) =>
      disk.write(i * LARGEST, data.subarray(i * LARGEST, i * LARGEST + bytes)),
    ),
  );
  await disk.write(0, data);
  await disk.flush();
  expect(Buffer.compare(await disk.read(0, data.length), data)).toBe(0);
}

/** `count` guests of storage that hangs, each with many requests of the largest size. */
async function hang(
  { host, connect }: Setting,
  count: number,
): Promise<{ guests: TestGuest[]; answers: Promise<unknown>[] }> {
  const guests: TestGuest[] = [];
  const answers: Promise<unknown>[] = [];
  for (let i = 0; i < count; i++) {
    const guest = await host.guest();
    const raw = rawQueue(await connect(guest, 'gated'));
    answers.push(...indirects(raw, i % 2 ? BlkifOp.read : BlkifOp.write, 20, SEGMENTS));
    raw.push();
    guests.push(guest);
  }
  return { guests, answers };
}

describe('H1: storage that hangs', () => {
  it.each([1, 4])('of %i guests with large requests keeps no other guest waiting', async (count) => {
    const all = await setting();
    const { gate, deviceOf, disk } = all;
    const { guests, answers } = await hang(all, count);
    await vi.waitFor(() => expect(gate.held.length).toBeGreaterThanOrEqual(count));
    const held = gate.held.length;
    await isServed(disk);
    expect(gate.held).toHaveLength(held);
    for (const guest of guests) {
      const { waiting, inFlight, bufferBytes } = deviceOf(guest).statistics();
      expect({ inFlight, waiting: waiting > 0, one: bufferBytes >= LARGEST }).toEqual({
        inFlight: 20,
        waiting: true,
        one: true,
      });
    }
    expect(deviceOf(all.victim).statistics()).toMatchObject({ waiting: 0, inFlight: 0, bufferBytes: 0 });
    gate.open = true;
    gate.release();
    expect(await Promise.all(answers)).toEqual(
      answers.map(() => expect.objectContaining({ status: BlkifStatus.okay })),
    );
    for (const guest of guests) {
      await vi.waitFor(() =>
        expect(deviceOf(guest).statistics()).toMatchObject({ waiting: 0, inFlight: 0, bufferBytes: 0 }),
      );
    }
  });

  it('keeps no other disk of the same guest waiting', async () => {
    const { host, gate, connect } = await setting();
    const guest = await host.guest();
    const raw = rawQueue(await connect(guest, 'gated'));
    const answers = indirects(raw, BlkifOp.write, 20, SEGMENTS);
    raw.push();
    await vi.waitFor(() => expect(gate.held.length).toBeGreaterThan(0));
    await isServed(await connect(guest, 'other', 'xvdb'));
    gate.open = true;
    gate.release();
    await Promise.all(answers);
  });

  it('keeps nobody waiting who comes when one disk has had the thread for itself', async () => {
    const all = await setting(32 * 1024 * 1024);
    const { host, gate, connect, deviceOf, disk, victim } = all;
    await disk.close();
    await victim.detach();
    const guest = await host.guest();
    const raw = rawQueue(await connect(guest, 'gated'));
    const answers = indirects(raw, BlkifOp.write, 200, SEGMENTS);
    raw.push();
    await vi.waitFor(() => expect(deviceOf(guest).statistics().waiting).toBeGreaterThan(0));
    // Half of the memory, less what the last of them has no room for.
    const { bufferBytes } = deviceOf(guest).statistics();
    expect(bufferBytes).toBeLessThanOrEqual(16 * 1024 * 1024);
    expect(bufferBytes).toBeGreaterThan(15 * 1024 * 1024);
    const late = await host.guest();
    const other = await connect(late, 'other');
    await isServed(other);
    expect(deviceOf(late).statistics()).toMatchObject({ starved: 0 });
    gate.open = true;
    gate.release();
    await Promise.all(answers);
  });
});

it('slow storage keeps no other guest waiting', async () => {
  const { host, connect, disk } = await setting();
  host.images.set('slow', () =>
    throttledImage(memoryImage({ size: 1024 * 1024 }), { bytesPerSecond: 4 << 20, burst: 0.01 }),
  );
  const guest = await host.guest();
  const raw = rawQueue(await connect(guest, 'slow'));
  let ended = 0;
  const answers = indirects(raw, BlkifOp.read, 6, SEGMENTS).map((answer) => answer.then(() => ended++));
  raw.push();
  await isServed(disk);
  expect(ended).toBeLessThan(answers.length);
  await Promise.all(answers);
});

describe('H1: a guest that floods', () => {
  it.each([
    ['discards', BlkifOp.discard],
    ['flushes', BlkifOp.flushDiskcache],
    ['barriers', BlkifOp.writeBarrier],
    ['requests that are refused', 99],
  ])('with %s keeps no other guest waiting', async (_name, operation) => {
    const { host, connect, disk } = await setting();
    const raw = rawQueue(await connect(await host.guest(), 'neighbour'));
    const data = raw.page();
    let over = false;
    let sent = 0;
    const flood = async () => {
      for (let id = sent++; !over; id = sent++) {
        const words = new Int32Array(raw.abi.slotWords);
        const request = new RequestWriter(words, raw.abi);
        if (operation === BlkifOp.discard) request.discard(0, id, 0, 0, 8);
        else request.readWrite(operation, operation === BlkifOp.writeBarrier ? 1 : 0, id, 0, 0);
        if (operation === BlkifOp.writeBarrier) request.segment(0, data.gref, 0, 7);
        await raw.request(words);
      }
    };
    const floods = Array.from({ length: 200 }, flood);
    await isServed(disk);
    over = true;
    await Promise.all(floods);
  });

  it('with the largest requests has its turns, and its copies are in slices, as those of all others', async () => {
    const { host, connect, disk, victim } = await setting(32 * 1024 * 1024);
    const copies: Map<number, number>[] = [];
    await host.backend.close();
    await host.startBackend({ provider: withCopies(host.xen.provider(0), copies) });
    await disk.read(0, PAGE);
    const guests = [await host.guest(), await host.guest(), await host.guest()];
    const raws = [];
    for (const guest of guests) raws.push(rawQueue(await connect(guest, 'neighbour')));
    const answers = raws.flatMap((raw) => indirects(raw, BlkifOp.write, 20, SEGMENTS));
    copies.length = 0;
    for (const raw of raws) raw.push();
    await vi.waitFor(() => expect(copies.length).toBeGreaterThan(0), { interval: 1 });
    const before = copies.length;
    await disk.write(0, new Uint8Array(PAGE));
    await Promise.all(answers);
    const ofVictim = copies.findIndex((bytes) => bytes.has(victim.domid));
    expect(ofVictim).toBeGreaterThanOrEqual(before);
    // In one of the next passes, of hundreds.
    expect(ofVictim - before).toBeLessThan(10);
    expect(copies.length).toBeGreaterThan(ofVictim + 10);
    const copied = new Map(guests.map(({ domid }) => [domid, 0]));
    for (const call of copies) {
      for (const [domid, bytes] of call) copied.set(domid, (copied.get(domid) ?? 0) + bytes);
      // One slice, and the lists of segments of what began.
      expect([...call.values()].reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(64 * 1024);
      const shares = guests.map(({ domid }) => copied.get(domid) ?? 0);
      expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(128 * 1024);
    }
    expect([...copied.values()].reduce((a, b) => a + b, 0)).toBeGreaterThan(60 * LARGEST);
  });
});

/** The provider, telling of each copy call how many bytes came from which domain. */
function withCopies(provider: XenProvider, calls: Map<number, number>[]): XenProvider {
  return replacing(provider, 'openGrantTable', () => {
    const grants = provider.openGrantTable();
    return replacing(grants, 'copy', (batch) => {
      const call = new Map<number, number>();
      for (let at = 0; at < batch.count * GrantCopyWord.segment; at += GrantCopyWord.segment) {
        if ((copyFlags(batch.words, at) & GrantCopyFlag.sourceIsGrant) === 0) continue;
        const domid = grantDomid(batch.words, at + GrantCopyWord.source);
        call.set(domid, (call.get(domid) ?? 0) + copyLength(batch.words, at));
      }
      if (call.size > 0) calls.push(call);
      return grants.copy(batch);
    });
  });
}
