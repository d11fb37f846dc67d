import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { errorNodePath } from '../error-nodes/error-node.js';
import { Faults } from '../testing/faulty-transport.js';
import { type Method, type Toy, ToyWorld } from '../testing/toy-world.js';

const SOON = { timeout: 10_000 };

const stateOf = (world: ToyWorld, devid = 7) => world.outside.tryRead(`${world.back(devid)}/state`);
const errorOf = (world: ToyWorld) => world.outside.tryRead(`${errorNodePath(0, world.address())}/error`);
const isHeld = (world: ToyWorld) => vi.waitFor(() => expect(world.device()?.held).toBeDefined(), SOON);
const isServed = (world: ToyWorld) =>
  vi.waitFor(() => expect(world.device()).toMatchObject({ connected: true, held: undefined }), SOON);
const isGone = (world: ToyWorld) => vi.waitFor(() => expect([...world.bus.devices]).toEqual([]), SOON);
const refuse =
  (error: unknown, method: Method = 'prepare') =>
  (called: Method) => {
    if (called === method) throw error;
  };
const noImage = Object.assign(new Error('/images/a.img: no such file'), { code: 'ENOENT' });

/** A world with a device that was found Connected and cannot be served, by a bus that was just started. */
async function heldWorld(error: unknown = noImage, method: Method = 'prepare'): Promise<ToyWorld> {
  const world = await ToyWorld.create();
  await world.leaveConnected();
  world.act = refuse(error, method);
  await world.start();
  await isHeld(world);
  return world;
}

describe('a device that is found Connected, whose handler rejects', () => {
  const methods: readonly Method[] = ['create', 'prepare', 'connect'];
  const errors: readonly (readonly [string, unknown])[] = [
    ['an error', noImage],
    ['one without a code', new Error('no reason')],
    ['what is no error', 'bad'],
  ];
  const cases = methods.flatMap((method) => errors.map(([name, error]) => [method, name, error] as const));

  it.each(cases)('in %s with %s, is held until that works', async (method, _name, error) => {
    await using world = await heldWorld(error, method);
    const message = error instanceof Error ? error.message : String(error);
    expect(world.device()?.held).toMatchObject({ reason: message, since: expect.any(Date) });
    await vi.waitFor(async () => expect(await errorOf(world)).toContain(message));
    await vi.waitFor(() => expect(world.device()?.held?.attempts).toBeGreaterThan(1), SOON);
    expect(await stateOf(world)).toBe('4');
    world.act = () => {};
    await isServed(world);
    await vi.waitFor(async () => expect(await errorOf(world)).toBeUndefined());
    expect(world.toys.at(-1)?.calls).toEqual(['prepare', 'adopt']);
    for (const toy of world.toys.slice(0, -1)) expect([undefined, 'leave']).toContain(toy.calls.at(-1));
    expect(world.holds).toEqual([message, 'served']);
    expect(world.written.filter((state) => !state.endsWith('Connected'))).toEqual([]);
  });

  it('is held when its frontend has not seen Connected yet', async () => {
    await using world = await ToyWorld.create();
    await world.leaveConnected();
    await world.frontend(3);
    world.act = refuse(noImage, 'connect');
    await world.start();
    await isHeld(world);
    world.act = () => {};
    await isServed(world);
    expect(world.toys.at(-1)?.calls).toEqual(['prepare', 'connect']);
    expect(world.written.filter((state) => !state.endsWith('Connected'))).toEqual([]);
  });

  it('is held when the toolstack lost where its frontend is', async () => {
    await using world = await ToyWorld.create();
    await world.leaveConnected();
    await world.outside.remove(`${world.back()}/frontend`);
    await world.start();
    await isHeld(world);
    expect(world.device()?.held?.reason).toMatch(/frontend is missing/);
    await world.outside.write(`${world.back()}/frontend`, world.front());
    await isServed(world);
  });

  it('for one reason after another, tells of each', async () => {
    await using world = await heldWorld();
    world.act = refuse(new Error('no NBD server'), 'connect');
    await vi.waitFor(() => expect(world.device()?.held?.reason).toBe('no NBD server'), SOON);
    await vi.waitFor(async () => expect(await errorOf(world)).toBe('EIO no NBD server'));
    world.act = () => {};
    await isServed(world);
    expect(world.holds).toEqual([noImage.message, 'no NBD server', 'served']);
  });

  it('is tried again after pauses that grow, and at once when somebody asks', async () => {
    await using world = await heldWorld();
    await vi.waitFor(() => expect(world.device()?.held?.attempts).toBe(5), SOON);
    const tries = world.toys.length;
    for (let i = 0; i < 500; i++) await turn();
    expect(world.toys.length - tries).toBeLessThan(2);
    // The pause is more than 400 ms now.
    world.act = () => {};
    const before = performance.now();
    world.toys.at(-1)?.context.retry();
    await isServed(world);
    expect(performance.now() - before).toBeLessThan(400);
    world.toys.at(-1)?.context.retry();
    world.device()?.retry();
    for (let i = 0; i < 100; i++) await turn();
    expect(world.toys.at(-1)?.calls).toEqual(['prepare', 'adopt']);
  });

  it('disturbs no other device', async () => {
    await using world = await ToyWorld.create();
    await world.leaveConnected(7);
    await world.leaveConnected(8);
    world.act = (method, toy) => (toy.context.address.devid === 7 ? refuse(noImage)(method) : undefined);
    await world.start();
    await isHeld(world);
    await vi.waitFor(() => expect(world.device(8)?.connected).toBe(true), SOON);
    expect(world.device(8)?.held).toBeUndefined();
  });
});

describe('a held device', () => {
  it('ends when the toolstack says offline, and its number is served again', async () => {
    await using world = await heldWorld();
    await world.remove();
    await isGone(world);
    expect(world.holds).toEqual([noImage.message, 'ended']);
    world.act = () => {};
    await world.create();
    await world.connect();
    await isServed(world);
  });

  it('ends when the toolstack says offline and the frontend does not answer', async () => {
    await using world = await heldWorld();
    await world.outside.transaction(async (tx) => {
      await tx.write(`${world.back()}/online`, 0);
      await tx.write(`${world.back()}/state`, 5);
    });
    await world.backendIs([6]);
    expect(world.device()?.held).toBeUndefined();
  });

  it('ends when the toolstack deletes it, without a word', async () => {
    await using world = await heldWorld();
    await world.delete();
    await isGone(world);
    expect(await world.outside.exists('/local/domain/0/error/backend')).toBe(false);
    for (const toy of world.toys) expect(['leave', 'close']).toContain(toy.calls.at(-1));
  });

  it('ends when its frontend is deleted', async () => {
    await using world = await heldWorld();
    await world.outside.remove(world.front());
    await world.backendIs([6]);
    expect(world.device()?.held).toBeUndefined();
  });

  it('closes with its frontend, which may come back', async () => {
    await using world = await heldWorld();
    await world.frontend(5);
    await world.backendIs([5]);
    await world.frontend(6);
    await world.backendIs([6]);
    expect(world.device()?.held).toBeUndefined();
    world.act = () => {};
    await world.frontend(1);
    await world.connect();
    await isServed(world);
    expect(world.toys.at(-1)?.calls).toEqual(['prepare', 'connect']);
    expect(world.holds).toEqual([noImage.message, 'ended']);
  });

  it('is connected anew when its frontend begins anew without closing', async () => {
    await using world = await heldWorld();
    world.act = () => {};
    await world.frontend(1);
    await world.backendIs([2, 4]);
    await world.frontend(1);
    await world.connect();
    await isServed(world);
    expect(world.toys.at(-1)?.calls.at(-1)).toBe('connect');
  });

  it.each(['prepare', 'connect'] as const)(
    'is left to a third bus when the second one stops while %s fails',
    async (method) => {
      await using world = await heldWorld(noImage, method);
      await world.bus.close();
      expect(world.toys.at(-1)?.calls.at(-1)).toBe('leave');
      expect(await stateOf(world)).toBe('4');
      expect(world.holds.at(-1)).toBe('left');
      const tries = world.toys.length;
      await world.start();
      await isHeld(world);
      world.act = () => {};
      await isServed(world);
      expect(world.toys.length).toBeGreaterThan(tries);
      expect(world.toys.at(-1)?.calls).toEqual(['prepare', 'adopt']);
      expect(world.written.filter((state) => !state.endsWith('Connected'))).toEqual([]);
    },
  );

  it('that is being tried when the bus stops is left', async () => {
    await using world = await heldWorld();
    world.act = (method, _toy, signal) => {
      if (method !== 'connect') return;
      return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(new Error('late'))));
    };
    await vi.waitFor(() => expect(world.toys.at(-1)?.calls.at(-1)).toBe('adopt'), SOON);
    await world.bus.close();
    expect(world.toys.at(-1)?.calls.slice(-2)).toEqual(['disconnect', 'leave']);
    expect(await stateOf(world)).toBe('4');
  });
});

describe('a device that is served', () => {
  const serve = async () => {
    const world = await ToyWorld.create();
    await world.start();
    await world.create();
    await world.connect();
    await isServed(world);
    world.written.length = 0;
    return world;
  };

  it('and loses what it needs is held, and served again by another handler', async () => {
    await using world = await serve();
    const [toy] = world.toys;
    world.act = refuse(noImage);
    toy.context.hold(new Error('the engine is gone'));
    toy.context.hold(new Error('told twice'));
    await isHeld(world);
    expect(world.holds[0]).toBe('the engine is gone');
    await vi.waitFor(() => expect(world.holds).toContain(noImage.message), SOON);
    expect(toy.calls).toEqual(['prepare', 'connect', 'disconnect', 'disconnect', 'leave']);
    toy.context.hold(new Error('late'));
    toy.context.fail(new Error('late'));
    world.act = () => {};
    await isServed(world);
    expect(world.toys.at(-1)?.calls).toEqual(['prepare', 'adopt']);
    expect(world.written.filter((state) => !state.endsWith('Connected'))).toEqual([]);
  });

  it('and loses it again and again, is held for ever longer', async () => {
    await using world = await serve();
    world.act = (method: Method, toy: Toy) => {
      if (method === 'connect') setImmediate(() => toy.context.hold(new Error('the engine is gone')));
    };
    world.toys[0].context.hold(new Error('the engine is gone'));
    await vi.waitFor(() => expect(world.toys.length).toBe(5), SOON);
    for (let i = 0; i < 500; i++) await turn();
    expect(world.toys.length).toBeLessThan(7);
    expect(world.written.filter((state) => !state.endsWith('Connected'))).toEqual([]);
  });

  it('goes on when it only tells of an error', async () => {
    await using world = await serve();
    world.toys[0].context.report(new Error('a key cannot be written'));
    await vi.waitFor(async () => expect(await errorOf(world)).toBe('EIO a key cannot be written'));
    expect(world.toys[0].calls).toEqual(['prepare', 'connect']);
    expect(await stateOf(world)).toBe('4');
  });

  it('closes when its frontend did what it must not', async () => {
    await using world = await serve();
    world.toys[0].context.fail(new Error('an impossible index'));
    await world.backendIs([5]);
    expect(world.holds).toEqual([]);
  });
});

describe('a device that is found Closed', () => {
  it('is served when its frontend comes back', async () => {
    await using world = await ToyWorld.create();
    await world.leaveConnected();
    await world.frontend(6);
    await world.outside.write(`${world.back()}/state`, 6);
    await world.start();
    for (let i = 0; i < 200; i++) await turn();
    expect(world.toys).toEqual([]);
    await world.frontend(1);
    await world.connect();
    await isServed(world);
  });
});

describe('xenstored', () => {
  it('that takes no writes: a device that is found Connected is served, and nothing is tried without a pause', async () => {
    let isFull = false;
    const faults = new Faults((_request, type) => (isFull && WRITES.includes(type) ? 'ENOSPC' : undefined));
    await using world = await ToyWorld.create({ faults });
    await world.leaveConnected();
    isFull = true;
    await world.start();
    await vi.waitFor(() => expect(world.device()?.connected).toBe(true), SOON);
    const before = faults.count;
    const start = performance.now();
    await vi.waitFor(() => expect(performance.now() - start).toBeGreaterThan(700), SOON);
    expect(faults.count - before).toBeLessThan(100);
    isFull = false;
    await vi.waitFor(async () => expect(await world.outside.tryRead(`${world.back()}/toys`)).toBe('2'), SOON);
    expect(world.toys.map(({ calls }) => calls)).toEqual([['prepare', 'adopt']]);
  });
});

/** xs_wire.h: MKDIR, WRITE, RM and SET_PERMS, and the end of a transaction with them. */
const WRITES = [7, 11, 12, 13, 14];
