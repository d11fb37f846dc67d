import { memoryImage } from '@xenpv/blockdev';
import { expect, it, onTestFinished, vi } from 'vitest';
import { overlookedChannel, type RingOverlookedEvent } from '../diagnostics.js';
import { deafProvider } from '../testing/deaf-provider.mjs';
import { TestHost } from '../testing/host.js';
import { PassLists } from './requests/lists.js';
import { Watchdog } from './watchdog.js';

const PAGE = 4096;

/** A connected disk whose backend's events are lost while `deaf[0]` is 1. */
async function setting(threads: number) {
  const overlooked: RingOverlookedEvent[] = [];
  const listener = (event: unknown) => overlooked.push(event as RingOverlookedEvent);
  overlookedChannel.subscribe(listener);
  const deaf = new Int32Array(new SharedArrayBuffer(4));
  const host = await TestHost.start();
  await host.backend.close();
  await host.startBackend({ provider: deafProvider(host.xen.provider(0), deaf), threads });
  host.images.set('disk', () => image);
  const image = memoryImage({ size: 1024 * 1024 });
  const guest = await host.guest();
  const disk = await guest.connect();
  onTestFinished(async () => {
    overlookedChannel.unsubscribe(listener);
    await disk.close();
    await host[Symbol.asyncDispose]();
  });
  await disk.read(0, PAGE);
  return { host, guest, disk, deaf, overlooked };
}

it.each([
  ['the main thread', 0],
  ['a worker thread', 1],
])('H3: a ring on %s whose event was lost is told, counted and looked at', async (_name, threads) => {
  const { host, guest, disk, deaf, overlooked } = await setting(threads);
  expect(host.backend.hosts[threads].ringCount).toBe(1);
  const count = () => host.device.statistics().overlooked;
  Atomics.store(deaf, 0, 1);
  // Until a ring sleeps it finds requests without events.
  while (count() === 0) expect(await disk.read(PAGE, PAGE)).toHaveLength(PAGE);
  Atomics.store(deaf, 0, 0);
  const told = count();
  await vi.waitFor(() => expect(overlooked).toHaveLength(told));
  const [{ ring, requestsProduced, requestsConsumed, inFlight, awake }] = overlooked;
  expect({ ring, inFlight, awake }).toEqual({ ring: `qdisk-${guest.domid}-51712/0`, inFlight: 0, awake: false });
  expect(requestsProduced).toBe(requestsConsumed + 1);
  // Its events come again.
  for (let i = 0; i < 3; i++) await disk.read(0, PAGE);
  expect(count()).toBe(told);
});

it('an event loop that was blocked for a second, again and again, is no reason', async () => {
  const { host, disk, overlooked } = await setting(0);
  const clock = new Int32Array(new SharedArrayBuffer(4));
  for (let i = 0; i < 3; i++) {
    const read = disk.read(0, PAGE);
    Atomics.wait(clock, 0, 0, 1200);
    await read;
  }
  expect(overlooked).toEqual([]);
  expect(host.device.statistics()).toMatchObject({ overlooked: 0 });
});

it('requests in a list that no run looks at are found, and none while runs go on', async () => {
  const { host } = await setting(0);
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setImmediate', 'clearImmediate'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
  const lists = new PassLists();
  lists.restart.add(3);
  const ring = { name: 'qdisk-1-51712/0', pending: 1, back: { indices: {} }, counters: { overlooked: vi.fn() } };
  const rescue = vi.fn();
  const loop = { runs: 5, rescue };
  const rings = { all: [], awake: [] };
  const watchdog = new Watchdog({ rings, lists, loop, table: { ringOf: () => ring }, barriers: {} } as never);
  watchdog.start();
  for (let i = 0; i < 10; i++) {
    loop.runs++;
    await vi.advanceTimersByTimeAsync(250);
  }
  expect(rescue).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1300);
  expect(rescue.mock.calls).toEqual([[ring]]);
  watchdog.stop();
  expect(host.device.statistics().overlooked).toBe(0);
});
