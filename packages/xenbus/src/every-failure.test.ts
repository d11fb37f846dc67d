import { describe, expect, it, vi } from 'vitest';
import { type Fault, Faults } from './testing/faulty-transport.js';
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
  await world.remove(PLAYED);
  await gone(world, PLAYED);
  for (const toy of world.toysOf(PLAYED)) expect(toy.calls.at(-1)).toBe('close');
  expect(await world.outside.exists(world.back(PLAYED))).toBe(false);
  await living.endsWell();
  return parts.faults.count - first;
}

describe('a request to xenstored that fails once', () => {
  const faults: readonly Fault[] = ['EIO', 'EAGAIN', 'ENOSPC', 'lost before', 'lost after'];
  const AT_ONCE = 16;
  const keys = ['colour'];

  it.each(faults)('%s, at any place, closes no disk and leaves nothing', { timeout: 120_000 }, async (fault) => {
    const requests = await life({ keys, faults: new Faults() });
    expect(requests).toBeGreaterThan(30);
    const places = Array.from({ length: requests }, (_, place) => place);
    const next = async (): Promise<void> => {
      for (let place = places.shift(); place !== undefined; place = places.shift()) {
        const type = `toy${place}`;
        await life({ keys, type, faults: Faults.once(place, fault) }).catch((cause: Error) => {
          throw new Error(`${fault} at request ${place} of ${requests}: ${cause.message}`, { cause });
        });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, next));
  });
});
