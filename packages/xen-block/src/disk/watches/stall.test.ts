import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { expect, it, onTestFinished, vi } from 'vitest';
import { FailingStorage } from '../../testing/failing-image.js';
import { TestHost } from '../../testing/host.js';
import { StallWatch } from './stall.js';

interface Told {
  readonly is: 'stalled' | 'recovered';
  readonly ageMs: number;
  readonly inFlight?: number;
}

function listen(): Told[] {
  const told: Told[] = [];
  for (const is of ['stalled', 'recovered'] as const) {
    const channel = `xen-block:storage:${is}`;
    const listener = (event: unknown) => void told.push({ is, ...(event as Omit<Told, 'is'>) });
    subscribe(channel, listener);
    onTestFinished(() => void unsubscribe(channel, listener));
  }
  return told;
}

const address = { type: 'qdisk', domid: 5, devid: 51712 };

it('storage that hangs is told of at the threshold, at growing intervals, and when it is over', () => {
  const told = listen();
  const watch = new StallWatch(address, 10_000);
  for (let age = 1000; age <= 100_000; age += 1000) watch.look(age, 3);
  watch.look(0, 0);
  watch.look(0, 0);
  expect(told.map(({ is, ageMs }) => [is, ageMs])).toEqual([
    ['stalled', 10_000],
    ['stalled', 20_000],
    ['stalled', 40_000],
    ['stalled', 80_000],
    ['recovered', 100_000],
  ]);
  for (let age = 1000; age <= 10_000; age += 1000) watch.look(age, 1);
  expect(told.at(-1)).toMatchObject({ is: 'stalled', ageMs: 10_000, inFlight: 1, address });
});

it('slow storage that is below the threshold is not told of', () => {
  const told = listen();
  const watch = new StallWatch(address, 10_000);
  for (const age of [0, 9999, 0, 5000, 0]) watch.look(age, 1);
  expect(told).toEqual([]);
});

it.each([0, 1])('a request that storage holds back is seen, with %i threads', async (threads) => {
  const told = listen();
  await using host = await TestHost.start({ stallMs: 100, threads });
  const storage = new FailingStorage();
  host.images.set('disk', () => storage.image());
  const guest = await host.guest();
  const disk = await guest.connect();
  expect(host.device.oldestRequestMs).toBe(0);
  storage.delay(700);
  const read = disk.read(0, 4096);
  await vi.waitFor(() => expect(told.map(({ is }) => is)).toEqual(['stalled', 'stalled']), { timeout: 4000 });
  expect(told[0]).toMatchObject({ inFlight: 1, address: host.device.address });
  expect(host.device.oldestRequestMs).toBeGreaterThan(100);
  storage.mend();
  await read;
  await vi.waitFor(() => expect(told.at(-1)).toMatchObject({ is: 'recovered' }));
  expect(host.device.oldestRequestMs).toBe(0);
  await disk.close();
});
