import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { ToyWorld } from '../testing/toy-world.js';
import { Takeovers } from './takeovers.js';

describe('when a bus starts, a device that was connected', () => {
  it.each([
    ['is opened before one that was not', undefined],
    ['that cannot be opened is held before another is opened', new Error('no such image')],
  ])('%s', async (_title, error) => {
    await using world = await ToyWorld.create();
    await world.create(7);
    await world.leaveConnected(9);
    let open = () => {};
    const opened = new Promise<void>((resolve) => (open = resolve));
    world.act = async (method, { context }) => {
      if (method !== 'prepare' || context.address.devid !== 9) return;
      await opened;
      if (error !== undefined) throw error;
    };
    const bus = await world.start();
    await vi.waitFor(() => expect(world.toysOf(9)[0]?.calls).toEqual(['prepare']));
    for (let i = 0; i < 100; i++) await turn();
    expect(world.toysOf(7)).toEqual([]);
    open();
    await vi.waitFor(() => expect(world.toysOf(7)[0]?.calls).toEqual(['prepare']));
    const connected = [...bus.devices].find(({ address }) => address.devid === 9);
    expect([connected?.connected, connected?.held?.reason]).toEqual([error === undefined, error?.message]);
  });

  it('whose opening hangs does not keep a bus from closing', async () => {
    const world = await ToyWorld.create();
    await world.create(7);
    await world.leaveConnected(9);
    world.act = (method, _toy, signal) =>
      method === 'prepare'
        ? new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)))
        : undefined;
    await world.start();
    await vi.waitFor(() => expect(world.toysOf(9)[0]?.calls).toEqual(['prepare']));
    await world[Symbol.asyncDispose]();
    expect(world.toysOf(7)).toEqual([]);
  });
});

describe('those who wait for takeovers', () => {
  it('wait until all were found, and each was taken over or has none', async () => {
    using takeovers = new Takeovers();
    const [first, second] = [takeovers.turn(), takeovers.turn()];
    first.over();
    first.over();
    takeovers.allAreFound();
    expect(first.mustWait).toBe(true);
    second.over();
    await first.wait();
    expect([first.mustWait, takeovers.turn().mustWait]).toEqual([false, false]);
  });

  it('wait no longer than for a while', async () => {
    using takeovers = new Takeovers(10);
    const waiting = takeovers.turn();
    takeovers.allAreFound();
    await waiting.wait();
    expect(waiting.mustWait).toBe(false);
  });
});
