import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Blkfront } from '@xenpv/blkfront';
import { rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, BlkifStatus, encodeSegment, RequestWriter, SEGMENT_WORDS } from '@xenpv/blkif';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import type { DeviceLimitedEvent } from '../diagnostics.js';
import type { XenBlockBackendOptions } from '../options.js';
import { type TestGuest, TestHost } from '../testing/host.js';

const PAGE = 4096;

let host: TestHost;
let guest: TestGuest;

afterEach(() => host[Symbol.asyncDispose]());

async function start(options: Partial<XenBlockBackendOptions> = {}): Promise<Blkfront> {
  host = await TestHost.start(options);
  guest = await host.guest();
  return guest.connect({ queues: options.limits?.maxQueues });
}

/** Milliseconds that so many reads take, all in flight at once. It may be longer on a busy machine, never shorter. */
async function timeOf(disk: Blkfront, reads: number, bytes = PAGE): Promise<number> {
  const since = performance.now();
  await Promise.all(Array.from({ length: reads }, (_, i) => disk.read(((i * 8) % 256) * 512, bytes)));
  return performance.now() - since;
}

const backPath = (devid = 51712) => `/local/domain/0/backend/qdisk/${guest.domid}/${devid}`;
const limitsAre = (text: object) => vi.waitFor(() => expect(host.device.limits.disk).toEqual(text));

describe('a disk with limits', () => {
  it('takes no more requests in a second than its configuration says', async () => {
    const disk = await start({ diskLimits: { iops: 100, iopsBurst: 5 } });
    expect(await timeOf(disk, 45)).toBeGreaterThan(390);
    expect(host.device.statistics().throttledTimeNs).toBeGreaterThan(300e6);
  });

  it('moves no more bytes in a second, with direct and with indirect requests', async () => {
    const disk = await start({ diskLimits: { bandwidth: 1 << 20, bandwidthBurst: 64 << 10 } });
    // What passes at first: the burst, and a request that the last byte of it begins.
    expect(await timeOf(disk, 32, 16 << 10)).toBeGreaterThan(400);
    expect(await timeOf(disk, 4, 128 << 10)).toBeGreaterThan(300);
  });

  it('charges a guest for what an indirect request moves, not for the pages of its segments', async () => {
    // 8 KiB each: all are less than the burst, and their pages, of 64 KiB each, are far more.
    const disk = await start({ diskLimits: { bandwidth: 65536, bandwidthBurst: 65536 } });
    const raw = rawQueue(disk);
    for (let i = 0; i < 6; i++) {
      const [segments, data] = [raw.page(), raw.page()];
      const words = new Int32Array(segments.bytes.buffer, segments.bytes.byteOffset, 1024);
      for (let at = 0; at < 16; at++) encodeSegment(words, at * SEGMENT_WORDS, data.gref, 0, 0);
      const request = new RequestWriter(new Int32Array(raw.abi.slotWords), raw.abi);
      request.indirect(BlkifOp.read, 16, i, 0, 0);
      request.indirectGref(0, segments.gref);
      const answer = raw.put(request.words);
      raw.push();
      expect((await answer).status).toBe(BlkifStatus.okay);
    }
    expect(host.device.statistics()).toMatchObject({ throttledTimeNs: 0, read: { operations: 6, bytes: 6 * 8192 } });
  });

  it('answers a refused request too, and counts it', async () => {
    const disk = await start({ diskLimits: { iops: 50, iopsBurst: 1 } });
    const raw = rawQueue(disk);
    const since = performance.now();
    const answers = Array.from({ length: 10 }, () => raw.put(new Int32Array(raw.abi.slotWords).fill(0x63)));
    raw.push();
    for (const answer of answers) expect((await answer).status).not.toBe(BlkifStatus.okay);
    expect(performance.now() - since).toBeGreaterThan(150);
  });

  it('is served on worker threads within the same limits, whatever its queues', async () => {
    const disk = await start({ threads: 2, limits: { maxQueues: 4 }, diskLimits: { iops: 100, iopsBurst: 5 } });
    expect(host.device.negotiated?.rings).toHaveLength(4);
    expect(await timeOf(disk, 45)).toBeGreaterThan(390);
  });

  it('gets others by its key while requests wait, and none', async () => {
    const disk = await start();
    await host.store.write(`${backPath()}/limits`, 'iops=1,iops-burst=1');
    await limitsAre({ iops: 1, iopsBurst: 1 });
    const reads = Promise.all(Array.from({ length: 2000 }, () => disk.read(0, PAGE)));
    await vi.waitFor(() => expect(host.device.statistics().throttledTimeNs).toBeGreaterThan(0));
    await host.store.write(`${backPath()}/limits`, 'none');
    await reads;
  });

  it('keeps what its configuration says when the key is wrong, and tells', async () => {
    const told: { expected?: string }[] = [];
    const listener = (event: unknown) => void told.push(event as { expected?: string });
    subscribe('xen-block:device:ignored', listener);
    onTestFinished(() => void unsubscribe('xen-block:device:ignored', listener));
    await start({ diskLimits: { iops: 7000 } });
    await host.store.write(`${backPath()}/limits`, 'iops=fast');
    await vi.waitFor(() => expect(told.at(-1)?.expected).toContain('iops=500'));
    expect(host.device.limits.disk).toEqual({ iops: 7000 });
  });

  it('keeps what it was told over a restart of the backend, until it is taken back', async () => {
    const disk = await start({ diskLimits: { iops: 9000 } });
    await host.device.setLimits('disk', { iops: 100, iopsBurst: 5 });
    await host.backend.close();
    await host.startBackend();
    await vi.waitFor(() => expect(host.device?.negotiated).toBeDefined());
    expect(host.device.limits.disk).toEqual({ iops: 100, iopsBurst: 5 });
    expect(await timeOf(disk, 25)).toBeGreaterThan(190);
    await host.device.setLimits('disk', undefined);
    expect(host.device.limits.disk).toEqual({ iops: 9000 });
    expect(await host.store.exists(`${backPath()}/limits`)).toBe(false);
  });

  it('does not come back to the store when the toolstack has removed it', async () => {
    await start();
    const { device } = host;
    await host.store.remove(backPath());
    await expect(device.setLimits('disk', { iops: 5 })).rejects.toThrow(/gone/);
    expect(await host.store.exists(backPath())).toBe(false);
  });

  it('is detached, and its guest destroyed, while requests wait for its limits', async () => {
    const disk = await start({ diskLimits: { iops: 1, iopsBurst: 1 } });
    const reads = Array.from({ length: 10 }, () => disk.read(0, PAGE).catch(() => {}));
    await vi.waitFor(() => expect(host.device.statistics().read.operations).toBe(1));
    await guest.destroy();
    await vi.waitFor(() => expect(host.device).toBeUndefined());
    void reads;
  });

  it('flushes and meets its barriers in order below a limit', async () => {
    const disk = await start({ diskLimits: { iops: 200, iopsBurst: 1 } });
    const data = new Uint8Array(PAGE).fill(7);
    await Promise.all([disk.write(0, data), disk.flush(), disk.write(PAGE, data), disk.flush()]);
    expect(new Uint8Array(await disk.read(PAGE, PAGE))).toEqual(data);
  });
});

describe('a guest with limits', () => {
  it('has them for all its disks together, and a disk that is added keeps them', async () => {
    const first = await start();
    await host.device.setLimits('guest', { iops: 100, iopsBurst: 5 });
    const second = await guest.connect({}, { vdev: 'xvdb' });
    const since = performance.now();
    await Promise.all([timeOf(first, 25), timeOf(second, 25)]);
    expect(performance.now() - since).toBeGreaterThan(440);
    // The first one is detached: the second has the note too.
    await first.close();
    await guest.detach('xvda');
    expect(await host.store.read(`${backPath(51728)}/guest-limits`)).toBe('iops=100,iops-burst=5');
  });

  it('leaves other guests alone', async () => {
    await start({ guestLimits: { iops: 1, iopsBurst: 1 } });
    const other = await host.guest();
    const disk = await other.connect();
    const device = [...host.backend.devices].find(({ address }) => address.domid === other.domid);
    await device?.setLimits('guest', {});
    await Promise.all(Array.from({ length: 500 }, () => disk.read(0, PAGE)));
    expect(device?.limits.guest).toEqual({});
  });

  it('is told of once when limits change', async () => {
    const told: DeviceLimitedEvent[] = [];
    const listener = (event: unknown) => void told.push(event as DeviceLimitedEvent);
    subscribe('xen-block:device:limited', listener);
    onTestFinished(() => void unsubscribe('xen-block:device:limited', listener));
    await start();
    await host.device.setLimits('guest', { iops: 5 });
    await host.device.setLimits('guest', { iops: 5 });
    host.backend.setRateLimits({ diskLimits: { bandwidth: 4096 } });
    host.backend.setRateLimits({ diskLimits: { bandwidth: 4096 } });
    expect(told.map(({ disk, guest: all }) => [disk, all])).toEqual([
      [{}, { iops: 5 }],
      [{ bandwidth: 4096 }, { iops: 5 }],
    ]);
  });
});
