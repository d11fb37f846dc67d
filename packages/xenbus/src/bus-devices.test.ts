import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BackendBus } from './bus.js';
import { XenbusState } from './states.js';
import { Toy, ToyWorld } from './testing/toy-world.js';

let world: ToyWorld;

beforeEach(async () => {
  world = await ToyWorld.create();
});

afterEach(() => world[Symbol.asyncDispose]());

describe('the devices of a bus', () => {
  it('are found by their address, with the handler of one’s own class and the state', async () => {
    await using bus = await BackendBus.start({
      store: world.store,
      types: ['toy'],
      ownDomid: 0,
      createHandler: (context) => new Toy(context, world),
    });
    expect(bus.get(world.address())).toBeUndefined();
    await world.create();
    await world.connect();
    const device = bus.get(world.address());
    // A method of Toy's own, by its type.
    expect(device?.handler?.calls).toContain('connect');
    await vi.waitFor(() => expect(device?.state).toBe(XenbusState.connected));
    await world.remove();
    await vi.waitFor(() => expect(bus.get(world.address())).toBeUndefined());
    expect(device?.handler).toBeUndefined();
    expect(device?.state).toBe(XenbusState.unknown);
  });

  it('that are not to be served are left as they are', async () => {
    await world.create(0);
    await world.start({ serves: ({ devid }) => devid > 0 });
    await world.create(1);
    await world.connect(1);
    expect(world.bus.get(world.address(0))).toBeUndefined();
    expect(await world.outside.read(`${world.back(0)}/state`)).toBe(String(XenbusState.initialising));
    await world.remove(1);
  });

  it('are served by a handler that publishes nothing, and says so by returning nothing', async () => {
    await using bus = await BackendBus.start({
      store: world.store,
      types: ['toy'],
      ownDomid: 0,
      createHandler: () => ({
        prepare: async () => {},
        connect: async () => {},
        disconnect: async () => {},
        close: async () => {},
      }),
    });
    await world.create();
    await world.connect();
    expect(await world.outside.directory(world.back())).not.toContain('max-toys');
    await bus.settled();
  });
});
