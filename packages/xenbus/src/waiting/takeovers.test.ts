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

describe('while another is still opened, a device that was connected', () => {
  /** 7 is taken over, 9 cannot be opened yet. */
  async function half() {
    const world = await ToyWorld.create();
    await world.leaveConnected(7);
    await world.leaveConnected(9);
    // An earlier process has said something else, and it was refused.
    await world.outside.write(`${world.back(7)}/toys`, 1);
    await world.outside.write(errorNode, 'it broke');
    let open = () => {};
    const opened = new Promise<void>((resolve) => (open = resolve));
    world.act = (method, { context }) => (method === 'prepare' && context.address.devid === 9 ? opened : undefined);
    await world.start();
    await vi.waitFor(() => expect(world.device(7)?.connected).toBe(true));
    for (let i = 0; i < 100; i++) await turn();
    return { world, open };
  }
  const errorNode = '/local/domain/0/error/backend/toy/5/7/error';

  it('is served, and what is left to be said is said afterwards', async () => {
    const { world, open } = await half();
    await using _ = world;
    const [toy] = world.toysOf(7);
    const { outside } = world;
    const said = () => Promise.all([outside.tryRead(`${world.back(7)}/toys`), outside.tryRead(errorNode)]);
    expect([toy.calls, toy.values, await said()]).toEqual([['prepare', 'adopt'], [], ['1', 'it broke']]);
    open();
    await vi.waitFor(async () => expect(await said()).toEqual(['2', undefined]));
    expect(toy.values[0]).toMatchObject({ colour: 'red' });
  });

  it('is told of a key that changes meanwhile, and says what it says itself', async () => {
    const { world } = await half();
    await using _ = world;
    const [toy] = world.toysOf(7);
    await toy.context.update({ size: 9 });
    expect(await world.outside.read(`${world.back(7)}/size`)).toBe('9');
    await world.outside.write(`${world.back(7)}/colour`, 'blue');
    await vi.waitFor(() => expect(toy.values.at(-1)).toMatchObject({ colour: 'blue' }));
    expect(await world.outside.read(`${world.back(7)}/toys`)).toBe('2');
  });

  it('follows its frontend that closes meanwhile', async () => {
    const { world } = await half();
    await using _ = world;
    await world.frontend(5, 7);
    await world.backendIs([5], 7);
    await world.frontend(6, 7);
    await world.backendIs([6], 7);
    expect(world.device(9)?.connected).toBe(false);
  });

  it('tells an error that comes meanwhile, and keeps it', async () => {
    const { world, open } = await half();
    await using _ = world;
    const [toy] = world.toysOf(7);
    toy.context.report(new Error('it broke again'));
    await vi.waitFor(async () => expect(await world.outside.read(errorNode)).toContain('it broke again'));
    open();
    await vi.waitFor(() => expect(world.device(9)?.connected).toBe(true));
    await world.bus.settled();
    for (let i = 0; i < 100; i++) await turn();
    expect(await world.outside.read(errorNode)).toContain('it broke again');
  });

  it('is left as it is when the bus closes, and the next one says what is left', async () => {
    const { world, open } = await half();
    await using _ = world;
    const closing = world.bus.close();
    open();
    await closing;
    expect(await world.outside.read(`${world.back(7)}/state`)).toBe('4');
    await world.start();
    await vi.waitFor(async () => expect(await world.outside.read(`${world.back(7)}/toys`)).toBe('2'));
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
