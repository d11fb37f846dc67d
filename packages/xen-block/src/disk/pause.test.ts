import type { Blkfront } from '@xenpv/blkfront';
import { type BlockImage, memoryImage } from '@xenpv/blockdev';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { GatedImage } from '../testing/gated-image.js';
import { type TestGuest, TestHost } from '../testing/host.js';

const MIB = 1 << 20;
const QUEUES = 2;

let host: TestHost;
let guest: TestGuest;

/** Media by target: each has its own bytes everywhere. */
const medium = (value: number) => memoryImage({ data: new Uint8Array(MIB).fill(value), readOnly: true });

/** Opens here, and on no worker thread. */
function unsharable(value: number): BlockImage {
  const image = medium(value);
  const data = { kind: 'nothing that is known' };
  return Object.assign(image, { share: () => ({ ...memoryImage({ size: 512 }).share(), data }) });
}

async function start(threads: number): Promise<void> {
  host = await TestHost.start({ threads, limits: { maxQueues: QUEUES } });
  guest = await host.guest();
  host.images.set('1', () => medium(1));
  host.images.set('2', () => medium(2));
  host.images.set('scratched', () => Promise.reject(new Error('unreadable')));
  host.images.set('here', () => unsharable(3));
}

afterEach(() => host[Symbol.asyncDispose]());

const cdrom = { deviceType: 'cdrom', readOnly: true, target: '1' } as const;

/** Attaches a disk and waits until it can be connected to. */
async function attach(disk: Parameters<TestGuest['attach']>[0] = {}): Promise<void> {
  await state(`${await guest.attach(disk)}/state`, 2);
}

/** A read of each queue's, many at once. */
async function everyRingServes(disk: Blkfront): Promise<void> {
  const before = host.device.statistics().read.operations;
  const reads = await Promise.all(Array.from({ length: 64 }, (_, i) => disk.read(i * 4096, 512)));
  expect(reads).toHaveLength(64);
  expect(host.device.statistics().read.operations).toBeGreaterThan(before);
}

const state = (path: string, value: number) =>
  host.store.waitFor(async (ops) => ((await ops.tryRead(path)) === String(value) ? true : undefined));

describe.each([0, 2])('a paused disk, on %i threads', (threads) => {
  beforeEach(() => start(threads));

  it('gives its pause to the rings that come meanwhile, and ends it for them', async () => {
    await attach();
    await host.device.drain();
    await host.device.drain();
    const disk = await guest.reconnect({ queues: QUEUES });
    let served = false;
    const reads = Promise.all(Array.from({ length: 64 }, (_, i) => disk.read(i * 4096, 512)));
    void reads.then(() => {
      served = true;
    });
    await host.device.moveQueue(0, host.backend.hosts[threads]);
    host.device.undrain();
    await host.device.drain();
    expect(served).toBe(false);
    expect(host.device.statistics().read.operations).toBe(0);
    host.device.undrain();
    host.device.undrain();
    await reads;
    await disk.close();
  });

  it('serves after it was undrained once too often', async () => {
    const disk = await guest.connect({ queues: QUEUES });
    host.device.undrain();
    await host.device.drain();
    host.device.undrain();
    host.device.undrain();
    await everyRingServes(disk);
    await disk.close();
  });

  it.each(['scratched', 'here'])('is served, or empty, after a change to the medium "%s"', async (target) => {
    const disk = await guest.connect({ queues: QUEUES }, cdrom);
    await host.xen.toolstack.changeMedium(guest.domid, 'xvda', target);
    const fails = threads > 0 || target === 'scratched';
    await expect.poll(async () => (fails ? disk.size : (await disk.read(0, 1 << 9))[0])).toBe(fails ? 0 : 3);
    expect(host.device.config?.target).toBe(target);
    await host.xen.toolstack.changeMedium(guest.domid, 'xvda', '2');
    await expect.poll(() => disk.size).toBe(MIB);
    await expect.poll(async () => (await disk.read(0, 512))[0]).toBe(2);
    await everyRingServes(disk);
    await disk.close();
  });

  it('loads a medium that failed when it is named again', async () => {
    const disk = await guest.connect({}, cdrom);
    await host.xen.toolstack.changeMedium(guest.domid, 'xvda', 'scratched');
    await expect.poll(() => disk.size).toBe(0);
    host.images.set('scratched', () => medium(4));
    await host.xen.toolstack.changeMedium(guest.domid, 'xvda', 'scratched');
    await expect.poll(() => disk.size).toBe(MIB);
    expect((await disk.read(0, 512))[0]).toBe(4);
    await disk.close();
  });

  it('is served where it was when it cannot move', async () => {
    const disk = await guest.connect({ queues: QUEUES });
    const full = {
      ...host.backend.hosts[0],
      attach: () => Promise.reject(Object.assign(new Error('no room'), { code: 'ENOMEM' })),
    };
    await expect(host.device.moveQueue(0, full as never)).rejects.toThrow('no room');
    await everyRingServes(disk);
    expect(host.device.negotiated).toBeDefined();
    await disk.close();
  });
});

it('a medium changes while the guest connects, and the rings have the new one', async () => {
  await start(0);
  let open = () => {};
  const opening = new Promise<void>((resolve) => {
    open = resolve;
  });
  host.images.set('slow', () => opening.then(() => medium(7)));
  await attach(cdrom);
  await host.xen.toolstack.changeMedium(guest.domid, 'xvda', 'slow');
  const connecting = guest.reconnect({ queues: QUEUES });
  await state(`/local/domain/${guest.domid}/device/vbd/51712/state`, 3);
  open();
  const disk = await connecting;
  expect((await disk.read(0, 512))[0]).toBe(7);
  await everyRingServes(disk);
  await disk.close();
});

it('a drain waits for what a medium change has let in, and for what is at the storage', async () => {
  await start(0);
  const gated = new GatedImage(memoryImage({ size: MIB }));
  host.images.set('gated', () => gated);
  const disk = await guest.connect({}, { target: 'gated' });
  const read = disk.read(0, 512);
  await expect.poll(() => gated.held.length).toBe(1);
  let drained = false;
  const drain = host.device.drain().then(() => {
    drained = true;
  });
  const other = host.device.drain();
  expect(drained).toBe(false);
  gated.open = true;
  gated.release();
  await Promise.all([drain, other, read]);
  host.device.undrain();
  host.device.undrain();
  await disk.read(0, 512);
  await disk.close();
});

type Step =
  | { readonly do: 'drain' | 'undrain' | 'reconnect' | 'refresh' }
  | { readonly do: 'medium'; readonly target: string }
  | { readonly do: 'move'; readonly queue: number; readonly to: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constantFrom('drain' as const, 'undrain' as const, 'reconnect' as const, 'refresh' as const) }),
  fc.record({ do: fc.constant('medium' as const), target: fc.constantFrom('1', '2', 'scratched', 'here', '') }),
  fc.record({ do: fc.constant('move' as const), queue: fc.nat(QUEUES), to: fc.nat(2) }),
);

describe('a drive whose medium opens on no thread that serves rings', () => {
  beforeEach(() => start(2));

  it('is connected empty, and has the next medium', async () => {
    const disk = await guest.connect({ queues: QUEUES }, { ...cdrom, target: 'here' });
    await host.xen.toolstack.changeMedium(guest.domid, 'xvda', '2');
    await expect.poll(() => disk.size, { timeout: 5000 }).toBe(MIB);
    await expect.poll(async () => (await disk.read(0, 512))[0], { timeout: 5000 }).toBe(2);
    await everyRingServes(disk);
    await disk.close();
  });
});

describe.each([0, 2])('in any order, on %i threads', (threads) => {
  it('drains, media, moves and new rings leave a disk whose rings all serve', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 12 }), async (steps) => {
        await start(threads);
        try {
          await runSteps(steps);
        } finally {
          await host[Symbol.asyncDispose]();
        }
      }),
      { numRuns: threads === 0 ? 30 : 10 },
    );
    await start(0);
  }, 60_000);
});

/** Nothing of it is waited for but new connections, so that the steps overlap. */
async function runSteps(steps: readonly Step[]): Promise<void> {
  let disk = await guest.connect({ queues: QUEUES }, cdrom);
  const pending: Promise<unknown>[] = [];
  let drains = 0;
  for (const step of steps) {
    const { device } = host;
    if (step.do === 'drain') {
      drains++;
      pending.push(device.drain());
    } else if (step.do === 'undrain') {
      if (drains > 0) drains--;
      device.undrain();
    } else if (step.do === 'refresh') {
      pending.push(device.refresh());
    } else if (step.do === 'medium') {
      pending.push(host.xen.toolstack.changeMedium(guest.domid, 'xvda', step.target));
    } else if (step.do === 'move') {
      pending.push(device.moveQueue(step.queue, host.backend.hosts[step.to % host.backend.hosts.length]));
    } else {
      await disk.close();
      await state(`/local/domain/0/backend/qdisk/${guest.domid}/51712/state`, 6);
      disk = await guest.reconnect({ queues: QUEUES });
    }
  }
  for (; drains > 0; drains--) host.device.undrain();
  await Promise.allSettled(pending);
  await host.xen.toolstack.changeMedium(guest.domid, 'xvda', '1');
  await host.xen.toolstack.changeMedium(guest.domid, 'xvda', '2');
  await expect.poll(() => disk.size, { timeout: 5000 }).toBe(MIB);
  await expect.poll(async () => (await disk.read(0, 512))[0], { timeout: 5000 }).toBe(2);
  // The guest may hear late that a drive was empty between two media.
  await vi.waitFor(() => everyRingServes(disk), { timeout: 5000 });
  await disk.close();
}
