import type { Blkfront } from '@xenpv/blkfront';
import { rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, BlkifStatus, RequestWriter } from '@xenpv/blkif';
import { memoryImage } from '@xenpv/blockdev';
import { faultyProvider, type XenProvider } from '@xenpv/xen-sys';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { LocalRingHost } from '../hosts/ring-host.js';
import { GatedImage } from '../testing/gated-image.js';
import { TestHost } from '../testing/host.js';
import { indirects } from '../testing/indirect-requests.js';
import { replacing } from '../testing/replacing.js';
import { watchPlane } from '../testing/watch-plane.js';
import { DataPlane } from './data-plane.js';
import type { RingOptions } from './rings/ring-options.js';

const PAGE = 4096;
const SEGMENTS = 64;

interface Setting {
  readonly host: TestHost;
  readonly gate: GatedImage;
  readonly disk: Blkfront;
  readonly plane: ReturnType<typeof watchPlane>;
}

/** A host with memory for one largest request besides another, and a disk with many slots. */
async function setting(options: Parameters<typeof TestHost.start>[0] = {}): Promise<Setting> {
  const plane = watchPlane();
  const host = await TestHost.start({ memoryBytes: 512 * 1024, limits: { maxIndirectSegments: SEGMENTS }, ...options });
  const gate = new GatedImage(memoryImage({ size: 1024 * 1024 }));
  gate.open = true;
  host.images.set('disk', () => gate);
  const guest = await host.guest();
  const disk = await guest.connect({ ringPageOrder: 3 });
  onTestFinished(async () => {
    gate.open = true;
    gate.release();
    await disk.close();
    await host[Symbol.asyncDispose]();
    expect(plane.broken).toEqual([]);
  });
  return { host, gate, disk, plane };
}

it('more large requests than there are pages of memory are all answered', async () => {
  const { disk } = await setting();
  const raw = rawQueue(disk);
  const answers = [...indirects(raw, BlkifOp.write, 100, SEGMENTS), ...indirects(raw, BlkifOp.read, 100, SEGMENTS)];
  raw.push();
  for (const { status } of await Promise.all(answers)) expect(status).toBe(BlkifStatus.okay);
});

it('H2: a request that waits for memory has its segments copied once, however long it waits', async () => {
  const { host, gate, disk } = await setting();
  gate.open = false;
  const raw = rawQueue(disk);
  const copied: number[] = [];
  await host.backend.close();
  await host.startBackend({ provider: withCopies(host.xen.provider(0), (ref) => copied.push(ref)) });
  const answers = indirects(raw, BlkifOp.read, 3, SEGMENTS);
  raw.push();
  await vi.waitFor(() => expect(gate.log).toHaveLength(1));
  expect(host.device.statistics()).toMatchObject({ starved: 2 });
  // Each of these is a pass in which the other two still wait.
  for (let i = 0; i < 5; i++) {
    const words = new Int32Array(raw.abi.slotWords);
    new RequestWriter(words, raw.abi).readWrite(99, 0, 1000 + i, 0, 0);
    expect((await raw.request(words)).status).toBe(BlkifStatus.eopnotsupp);
  }
  expect(copied).toHaveLength(1);
  gate.open = true;
  gate.release();
  await Promise.all(answers);
  expect(copied).toHaveLength(3);
});

it('a write is started whose flush ends while the plane looks for more work', async () => {
  const { host, gate, disk } = await setting({ pollMicroseconds: 10_000 });
  gate.open = false;
  let arrived = 0;
  let looks = 0;
  let found = 0;
  // The first two looks after a submission are those of the passes, the third looks for more.
  vi.spyOn(gate.queues[0], 'poll').mockImplementation(() => {
    if (arrived !== gate.log.length) looks = 0;
    arrived = gate.log.length;
    if (gate.held.length === 0 || ++looks < 3) return 0;
    found++;
    gate.release();
    return 1;
  });
  const raw = rawQueue(disk);
  const data = raw.page();
  for (let i = 0; i < 20; i++) {
    const words = new Int32Array(raw.abi.slotWords);
    const request = new RequestWriter(words, raw.abi);
    request.readWrite(BlkifOp.flushDiskcache, 1, i + 1, 0, 0);
    request.segment(0, data.gref, 0, 7);
    const answer = raw.request(words);
    // The plane looks for more after some of its runs only; after the others the storage is done by itself.
    const timer = setInterval(() => gate.release(), 20);
    expect(await answer).toMatchObject({ status: BlkifStatus.okay });
    clearInterval(timer);
  }
  expect(found).toBeGreaterThan(0);
  expect(host.device.statistics()).toMatchObject({ overlooked: 0 });
});

it("requests that no memory is large enough for are carried out in the guest's own pages", async () => {
  const { host, disk } = await setting();
  // As after a restart with less memory than the requests that were offered need.
  await using small = new LocalRingHost(new DataPlane(host.xen.provider(0), { memoryBytes: 32 * PAGE }));
  await host.device.moveQueue(0, small);
  const raw = rawQueue(disk);
  const answers = indirects(raw, BlkifOp.read, 3, SEGMENTS);
  raw.push();
  for (const { status } of await Promise.all(answers)) expect(status).toBe(BlkifStatus.okay);
  expect(await disk.read(0, PAGE)).toHaveLength(PAGE);
  await host.device.moveQueue(0, host.backend.hosts[0]);
});

describe('an exception within a pass', () => {
  it('of a listener is told, and interrupts nothing', async () => {
    const { host, disk, plane } = await setting();
    await using local = new LocalRingHost(new DataPlane(host.xen.provider(0)));
    const oops = () => {
      throw new Error('oops');
    };
    const listener = {
      badRequest: oops,
      unsupported: oops,
      broken: oops,
      storageError: oops,
      stopped: oops,
      gaveUp: oops,
      journalDropped: oops,
    };
    const attach = (options: RingOptions) => local.attach({ ...options, listener });
    await host.device.moveQueue(0, replacing(local, 'attach', attach));
    const raw = rawQueue(disk);
    const words = new Int32Array(raw.abi.slotWords);
    new RequestWriter(words, raw.abi).readWrite(99, 0, 1, 0, 0);
    const answers = [raw.put(words), ...indirects(raw, BlkifOp.read, 3, SEGMENTS)];
    raw.push();
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([BlkifStatus.eopnotsupp, 0, 0, 0]);
    expect(plane.failed).toMatchObject([{ ring: expect.stringMatching(/^qdisk-/), error: { message: 'oops' } }]);
    await host.device.moveQueue(0, host.backend.hosts[0]);
  });

  it.each(['push', 'submit', 'poll'] as const)("of the engine's %s is told, and all requests end", async (method) => {
    const { gate, disk, plane } = await setting();
    await disk.read(0, PAGE);
    vi.spyOn(gate.queues[0], method).mockImplementationOnce(() => {
      throw new Error('oops');
    });
    const reads = await Promise.allSettled([
      disk.read(0, PAGE),
      disk.read(64 * PAGE, PAGE),
      disk.read(128 * PAGE, PAGE),
    ]);
    const failed = reads.filter(({ status }) => status === 'rejected');
    expect(failed).toHaveLength(method === 'push' ? 1 : 0);
    expect(plane.failed).toMatchObject([{ ring: expect.stringMatching(/^qdisk-\d+-51712\/0$/), count: 1 }]);
    expect(await disk.read(0, PAGE)).toHaveLength(PAGE);
  });

  it.each([
    ['write', BlkifOp.write],
    ['read', BlkifOp.read],
  ])('of the grant copy of a %s is told, and the request is carried out all the same', async (_name, operation) => {
    const { host, disk, plane } = await setting();
    let throws = false;
    const provider = host.xen.provider(0);
    const failing = replacing(provider, 'openGrantTable', () => {
      const grants = provider.openGrantTable();
      return replacing(grants, 'copy', (batch) => {
        if (!throws) return grants.copy(batch);
        throws = false;
        throw new Error('oops');
      });
    });
    await host.backend.close();
    await host.startBackend({ provider: failing });
    const data = new Uint8Array(PAGE).fill(7);
    throws = operation === BlkifOp.write;
    await disk.write(PAGE, data);
    throws = operation === BlkifOp.read;
    expect(await disk.read(PAGE, PAGE)).toEqual(data);
    expect(throws).toBe(false);
    expect(plane.failed).toMatchObject([{ ring: undefined, error: { message: 'oops' } }]);
  });
});

/** The provider, telling the reference of each grant that is copied from. */
function withCopies(provider: XenProvider, copied: (ref: number) => void): XenProvider {
  return faultyProvider(provider, {
    copySegment: ({ ref, toGrant }) => {
      if (!toGrant) copied(ref);
      return undefined;
    },
  });
}
