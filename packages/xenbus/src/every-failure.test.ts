import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { needs } from '@xenpv/test-support';
import { GenuineServer } from '@xenpv/xenstore/testing';
import { EmulatedXenstored } from '@xenpv/xenstored';
import { describe, expect, it, vi } from 'vitest';
import { errorNodePath } from './error-nodes/error-node.js';
import { type Fault, Faults, type XenstoreTransport } from './testing/faulty-transport.js';
import { type Method, type Toy, ToyWorld, type WorldParts } from './testing/toy-world.js';

/** Served before, while and after everything happens to its neighbour. */
const LIVING = 1;
const PLAYED = 7;

const gone = (world: ToyWorld, devid: number) =>
  vi.waitFor(() => expect([...world.bus.devices].map(({ address }) => address.devid)).not.toContain(devid), {
    timeout: 15_000,
  });

/** A device that is connected and stays so: nothing that happens to its neighbour, or to xenstored, disturbs it. */
async function attachLiving(world: ToyWorld): Promise<{ endsWell(): Promise<void> }> {
  if (!(await world.outside.exists(world.back(LIVING)))) await world.create(LIVING);
  await world.connect(LIVING);
  await vi.waitFor(() => expect(world.toysOf(LIVING).at(-1)?.calls).toContain('connect'));
  const toys = world.toysOf(LIVING);
  const living = toys[toys.length - 1];
  const callsUntilNow = [...living.calls];
  return {
    async endsWell() {
      expect(world.toysOf(LIVING)).toEqual(toys);
      expect(living.calls).toEqual(callsUntilNow);
      await world.bus.close();
      expect(living.calls).toEqual([...callsUntilNow, 'disconnect', 'leave']);
      expect(await world.outside.read(`${world.back(LIVING)}/state`)).toBe('4');
      expect(world.written.filter((state) => /-1 Clos/.test(state))).toEqual([]);
      expect([...world.bus.devices]).toEqual([]);
      expect(await world.outside.exists('/local/domain/0/error/backend')).toBe(false);
    },
  };
}

describe('a handler that throws', () => {
  const methods: readonly Method[] = ['create', 'prepare', 'connect', 'changed', 'disconnect', 'close'];
  const cases = methods.flatMap((method) =>
    ['once', 'always'].flatMap((often) => ['at once', 'later'].map((when) => [method, often, when] as const)),
  );

  it.each(cases)('from %s, %s, %s, is that error of that device, and its number is served again', async (...row) => {
    const [method, often, when] = row;
    await using world = await ToyWorld.create();
    await world.start();
    const living = await attachLiving(world);
    let thrown = 0;
    const act = (called: Method, toy: Toy): Promise<void> | void => {
      if (called !== method || toy.context.address.devid !== PLAYED || (often === 'once' && thrown > 0)) return;
      thrown++;
      const error = new Error(`${method} is broken`);
      if (when === 'at once' || called === 'create') throw error;
      return Promise.reject(error);
    };
    world.act = act;
    await world.create(PLAYED);
    await world.backendIs([2, 6], PLAYED);
    await world.frontend(3, PLAYED);
    // Whatever came of it: the frontend goes, and comes back.
    await world.backendIs([4, 5, 6], PLAYED);
    await world.frontend(6, PLAYED);
    await world.backendIs([6], PLAYED);
    await world.frontend(1, PLAYED);
    await world.frontend(3, PLAYED);
    await world.delete(PLAYED);
    await gone(world, PLAYED);
    expect(thrown).toBeGreaterThan(0);
    const told = world.errors.filter(({ address }) => address?.devid === PLAYED);
    expect(told.map(({ error }) => (error as Error).message)).toContain(`${method} is broken`);
    expect(world.errors).toHaveLength(told.length);
    for (const toy of world.toysOf(PLAYED)) expect(['close', undefined]).toContain(toy.calls.at(-1));
    world.act = () => {};
    await world.create(PLAYED);
    await world.connect(PLAYED);
    await world.remove(PLAYED);
    await gone(world, PLAYED);
    await living.endsWell();
  });
});

/** Everything that happens to a device, with another one beside it. Resolves with the requests of the bus. */
async function life(parts: WorldParts & { readonly faults: Faults }): Promise<number> {
  await using world = await ToyWorld.create(parts);
  const first = parts.faults.count;
  await world.create(LIVING);
  await world.start().catch(async (error: unknown) => {
    // Start is all or nothing: it says why, and can be tried again.
    expect(error).toBeInstanceOf(Error);
    for (const toy of world.toys) expect(toy.calls.at(-1)).toBe('leave');
    world.toys.length = 0;
    await world.start();
  });
  const living = await attachLiving(world);
  await world.create(PLAYED);
  await world.connect(PLAYED);
  await world.outside.write(`${world.back(PLAYED)}/colour`, 'green');
  await vi.waitFor(() => expect(world.toysOf(PLAYED).at(-1)?.values.at(-1)).toMatchObject({ colour: 'green' }), 15_000);
  await world.toysOf(PLAYED).at(-1)!.context.update({ toys: 9 });
  await vi.waitFor(async () => expect(await world.outside.tryRead(`${world.back(PLAYED)}/toys`)).toBe('9'), 15_000);
  world.toysOf(PLAYED).at(-1)!.context.fail(new Error('lost the storage'));
  await world.backendIs([5], PLAYED);
  const errorNode = `${errorNodePath(0, world.address(PLAYED))}/error`;
  await vi.waitFor(async () => expect(await world.outside.tryRead(errorNode)).toBe('EIO lost the storage'), 15_000);
  await world.remove(PLAYED);
  await gone(world, PLAYED);
  for (const toy of world.toysOf(PLAYED)) expect(toy.calls.at(-1)).toBe('close');
  expect(await world.outside.exists(world.back(PLAYED))).toBe(false);
  await living.endsWell();
  await world.delete(LIVING);
  return parts.faults.count - first;
}

const FAULTS: readonly Fault[] = ['EIO', 'EAGAIN', 'ENOSPC', 'lost before', 'lost after'];
const LONG = { timeout: 120_000 };

/** A life for each place of a request, or for some of them, `atOnce` of them at a time. */
async function everyPlace(fault: Fault, parts: WorldParts & { readonly atOnce: number; readonly step: number }) {
  const { atOnce, step, ...rest } = parts;
  const keys = ['colour'];
  const requests = await life({ ...rest, type: 'toy', keys, faults: new Faults() });
  expect(requests).toBeGreaterThan(30);
  const places = Array.from({ length: Math.ceil(requests / step) }, (_, i) => i * step);
  const next = async (): Promise<void> => {
    for (let place = places.shift(); place !== undefined; place = places.shift()) {
      await life({ ...rest, keys, type: `toy${place}`, faults: Faults.once(place, fault) }).catch((cause: Error) => {
        throw new Error(`${fault} at request ${place} of ${requests}: ${cause.message}`, { cause });
      });
    }
  };
  await Promise.all(Array.from({ length: atOnce }, next));
}

describe('a request to xenstored that fails once', () => {
  it.each(FAULTS)('%s, at any place, closes no disk and leaves nothing', LONG, (fault) =>
    everyPlace(fault, { atOnce: 16, step: 1 }),
  );
});

/** Devices are attached while the bus loses its connection again and again, and cannot connect for a while. */
async function attachesThroughOutages(connect: () => Promise<XenstoreTransport>): Promise<void> {
  let isAway = false;
  await using world = await ToyWorld.create({
    connect: async () => {
      if (isAway) throw new Error('no xenstored');
      return connect();
    },
  });
  await world.start();
  const devids = Array.from({ length: 30 }, (_, i) => i);
  const attached = Promise.all(devids.map((devid) => world.create(devid).then(() => world.connect(devid))));
  for (let outage = 0; outage < 5; outage++) {
    isAway = true;
    world.transports.at(-1)?.lose();
    await sleep(60);
    isAway = false;
    const before = world.transports.length;
    await vi.waitFor(() => expect(world.transports.length).toBeGreaterThan(before), 10_000);
    // In the middle of what is done then.
    for (let i = 0; i < 10 * outage; i++) await turn();
  }
  await attached;
  const states = await Promise.all(devids.map((devid) => world.outside.read(`${world.back(devid)}/state`)));
  expect(states).toEqual(devids.map(() => '4'));
  for (const devid of devids)
    expect(world.toysOf(devid).filter(({ calls }) => calls.at(-1) !== 'close')).toHaveLength(1);
  expect(world.written.filter((state) => /Clos/.test(state))).toEqual([]);
}

describe('thirty devices that are attached while xenstored comes and goes', () => {
  it('all end Connected', LONG, async () => {
    const xenstored = new EmulatedXenstored();
    await attachesThroughOutages(async () => xenstored.connect(0));
    await xenstored.close();
  });
});

for (const kind of ['xenstored', 'oxenstored'] as const) {
  needs(kind, 'xenctrl.h', 'cc').describe(`with the genuine ${kind}`, () => {
    it.each(['EIO', 'lost before', 'lost after'] as const)(
      '%s, at every seventh place, closes no disk and leaves nothing',
      LONG,
      async (fault) => {
        await using server = await GenuineServer.start(kind);
        await using _guest = await server.connectGuest(5);
        await everyPlace(fault, { connect: () => server.connect(), atOnce: 1, step: 7 });
      },
    );

    it('thirty devices that are attached while the connection comes and goes all end Connected', LONG, async () => {
      await using server = await GenuineServer.start(kind);
      await using _guest = await server.connectGuest(5);
      await attachesThroughOutages(() => server.connect());
    });
  });
}
