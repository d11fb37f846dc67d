import type { Blkfront } from '@xenpv/blkfront';
import { type RawQueue, rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, BlkifStatus } from '@xenpv/blkif';
import { memoryImage } from '@xenpv/blockdev';
import fc from 'fast-check';
import { expect, it, onTestFinished, vi } from 'vitest';
import { GatedImage } from '../../testing/gated-image.js';
import { TestHost } from '../../testing/host.js';
import { indirects } from '../../testing/indirect-requests.js';
import { watchPlane } from '../../testing/watch-plane.js';

const SEGMENTS = 64;
const SLOTS = 32;
const POOL = 512 * 1024;
/** The memory and its reserve. */
const ALL_MEMORY = 9 * POOL;

/** A disk of a guest, and what is known of its requests. */
class Disk {
  readonly gate = new GatedImage(memoryImage({ size: 1024 * 1024 }));
  readonly rings: { raw: RawQueue; outstanding: number }[] = [];
  readonly statuses = new Set<number>();

  get outstanding(): number {
    return this.rings.reduce((sum, ring) => sum + ring.outstanding, 0);
  }

  send(ring: number, operation: number, count: number, segments: number): void {
    const { raw } = this.rings[ring];
    const sent = Math.min(count, SLOTS - this.rings[ring].outstanding);
    this.rings[ring].outstanding += sent;
    for (const answer of indirects(raw, operation, sent, segments)) {
      answer.then(({ status }) => {
        this.rings[ring].outstanding--;
        this.statuses.add(status);
      });
    }
    raw.push();
  }
}

/** Two disks of one guest, the first with two rings, and one of each of two others. All have too little memory. */
async function setting(): Promise<{ disks: Disk[]; bufferBytes: () => number[] }> {
  const plane = watchPlane();
  const limits = { maxIndirectSegments: SEGMENTS, maxQueues: 2 };
  const host = await TestHost.start({ memoryBytes: POOL, limits });
  const disks = [new Disk(), new Disk(), new Disk(), new Disk()];
  const guests = [await host.guest(), await host.guest(), await host.guest()];
  const fronts: Blkfront[] = [];
  for (const [i, disk] of disks.entries()) {
    host.images.set(`disk${i}`, () => disk.gate);
    const vdev = i === 1 ? 'xvdb' : 'xvda';
    const queues = i === 0 ? 2 : 1;
    const front = await guests[Math.max(0, i - 1)].connect(
      { vdev, queues, poolPages: 4096 },
      { vdev, target: `disk${i}` },
    );
    fronts.push(front);
    for (let queue = 0; queue < queues; queue++) disk.rings.push({ raw: rawQueue(front, queue), outstanding: 0 });
  }
  onTestFinished(async () => {
    for (const { gate } of disks) {
      gate.open = true;
      gate.release();
    }
    await Promise.allSettled(fronts.map((front) => front.close()));
    for (const device of host.backend.devices) expect(device.statistics().overlooked).toBe(0);
    await host[Symbol.asyncDispose]();
    expect(plane).toEqual({ broken: [], failed: [] });
  });
  return { disks, bufferBytes: () => [...host.backend.devices].map((device) => device.statistics().bufferBytes) };
}

const step = fc.oneof(
  fc.record({
    disk: fc.nat(3),
    ring: fc.nat(1),
    operation: fc.constantFrom<number>(BlkifOp.read, BlkifOp.write),
    count: fc.integer({ min: 1, max: SLOTS }),
    segments: fc.constantFrom(1, 5, 20, SEGMENTS),
  }),
  fc.record({ disk: fc.nat(3), release: fc.constantFrom(0.1, 0.5, 1) }),
);

it('whatever waits, and whatever the storage of others does, each disk has a request at its storage', async () => {
  const { disks, bufferBytes } = await setting();
  const goesOn = (disk: Disk) => expect(disk.outstanding === 0 || disk.gate.held.length > 0).toBe(true);
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 15 }), async (steps) => {
      for (const one of steps) {
        const disk = disks[one.disk];
        if ('release' in one) {
          let left = Math.ceil(disk.gate.held.length * one.release);
          disk.gate.release(() => left-- > 0);
        } else {
          disk.send(one.ring % disk.rings.length, one.operation, one.count, one.segments);
        }
        await vi.waitFor(() => disks.forEach(goesOn), { interval: 1 });
        expect(bufferBytes().reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(ALL_MEMORY);
      }
      for (const disk of disks) {
        while (disk.outstanding > 0) {
          disk.gate.release();
          await new Promise(setImmediate);
        }
      }
      for (const disk of disks) expect([...disk.statuses].filter((status) => status !== BlkifStatus.okay)).toEqual([]);
      expect(bufferBytes()).toEqual([0, 0, 0, 0]);
    }),
    { numRuns: 12 },
  );
});
