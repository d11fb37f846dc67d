import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { ToyWorld } from './testing/toy-world.js';

const forEver = new AbortController().signal;

describe('a bus is settled', () => {
  it('when each device that was found is adopted or held, and not before', async () => {
    await using world = await ToyWorld.create();
    for (const devid of [7, 8, 9]) await world.leaveConnected(devid);
    let open = () => {};
    const opened = new Promise<void>((resolve) => (open = resolve));
    world.act = (method, { context }) => {
      if (method !== 'prepare') return;
      if (context.address.devid === 8) throw new Error('no such image');
      if (context.address.devid === 9) return opened;
    };
    const bus = await world.start();
    const settled = vi.fn();
    const waiting = bus.settled({ signal: forEver }).then(settled);
    await vi.waitFor(() => expect(world.toysOf(7)[0]?.calls).toEqual(['prepare', 'adopt']));
    await vi.waitFor(() => expect(world.holds).toEqual(['no such image']));
    for (let i = 0; i < 100; i++) await turn();
    expect(settled).not.toHaveBeenCalled();
    open();
    await waiting;
    expect([...bus.devices].map(({ connected, held }) => [connected, held?.reason])).toEqual([
      [true, undefined],
      [false, 'no such image'],
      [true, undefined],
    ]);
  });

  it('as far as its signal lets it wait for a handler that hangs', async () => {
    await using world = await ToyWorld.create();
    await world.leaveConnected();
    world.act = (method, _toy, signal) =>
      method === 'prepare'
        ? new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)))
        : undefined;
    const bus = await world.start();
    const stop = new AbortController();
    const waiting = bus.settled({ signal: stop.signal });
    stop.abort();
    await waiting;
    await bus.settled({ signal: stop.signal });
    for (const device of bus.devices) await device.settled({ signal: stop.signal });
    expect([...bus.devices].map(({ connected }) => connected)).toEqual([false]);
  });

  it('at once without a device, and with one whose frontend does not come', async () => {
    await using world = await ToyWorld.create();
    const bus = await world.start();
    await bus.settled({ signal: forEver });
    await world.create(7);
    await world.backendIs([2]);
    await bus.settled({ signal: forEver });
    expect(world.toysOf(7)[0].calls).toEqual(['prepare']);
  });

  it('when it is closed while one waits', async () => {
    await using world = await ToyWorld.create();
    await world.leaveConnected();
    world.act = (method, _toy, signal) =>
      method === 'prepare'
        ? new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)))
        : undefined;
    const bus = await world.start();
    const waiting = bus.settled({ signal: forEver });
    await bus.close();
    await waiting;
  });
});
