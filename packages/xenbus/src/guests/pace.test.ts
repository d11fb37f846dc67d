import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { XenbusState } from '../states.js';
import { ToyWorld } from '../testing/toy-world.js';
import { TokenBucket } from './token-bucket.js';

const S = XenbusState;

describe('tokens', () => {
  let now = 0;
  const bucket = (burst: number, perSecond: number) => new TokenBucket({ burst, perSecond }, () => now);

  it('are there at once as many as a burst has, then as they come, and never more than a burst', () => {
    const tokens = bucket(3, 10);
    expect([1, 1, 1].map((count) => tokens.take(count))).toEqual([0, 0, 0]);
    expect(tokens.take(1)).toBe(100);
    expect(tokens.take(2)).toBe(200);
    now += 100;
    expect(tokens.take(1)).toBe(0);
    expect(tokens.take(1)).toBe(100);
    now += 3_600_000;
    expect([1, 1, 1].map((count) => tokens.take(count))).toEqual([0, 0, 0]);
    expect(tokens.take(1)).toBe(100);
  });

  it('are more with more devices, and no more are made by taking devices away and bringing them again', () => {
    const tokens = bucket(2, 10);
    tokens.widen(2);
    expect(tokens.take(4)).toBe(0);
    tokens.widen(-2);
    tokens.widen(2);
    expect(tokens.take(3)).toBe(100);
  });

  it('may be without a limit', () => {
    const tokens = bucket(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY);
    for (let i = 0; i < 10; i++) expect(tokens.take(1e9)).toBe(0);
    now += 1;
    tokens.widen(-3);
    expect(tokens.take(1e9)).toBe(0);
  });

  it('do not come from a clock that goes back', () => {
    const tokens = bucket(1, 10);
    expect(tokens.take(1)).toBe(0);
    now -= 1000;
    expect(tokens.take(1)).toBeGreaterThan(0);
  });
});

describe('a frontend that changes its state as fast as it can', () => {
  let world: ToyWorld;
  const guest = () => [...world.bus.guests][0];
  const connects = () => world.toysOf(7).flatMap(({ calls }) => calls.filter((call) => call === 'connect')).length;

  beforeEach(async () => {
    world = await ToyWorld.create();
    const paces = { looks: { burst: 4, perSecond: 20 }, steps: { burst: 4, perSecond: 20 } };
    await world.start({ guestPaces: paces });
    await world.create();
    await world.connect();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  /** Closes and begins anew, each time as soon as the backend has followed; or without looking at it. */
  async function flip(times: number): Promise<void> {
    for (let i = 0; i < times; i++)
      for (const state of [S.closed, S.initialising, S.initialised]) await world.frontend(state);
  }

  it('is looked at and connected at its pace, and its last state counts', async () => {
    const before = performance.now();
    await flip(500);
    await world.frontend(S.closed);
    await world.backendIs([S.closed]);
    await world.frontend(S.initialising);
    await world.connect();
    const seconds = (performance.now() - before) / 1000;
    expect(guest()).toMatchObject({ domid: 5, watchEvents: expect.any(Number), reconnects: expect.any(Number) });
    expect(guest().watchEvents).toBeGreaterThan(500);
    expect(guest().watchEventsDelayed).toBeGreaterThan(400);
    expect(guest().reconnects).toBe(connects() - 1);
    // A connection is four tokens, and one device has sixteen more at once.
    expect(guest().reconnects).toBeLessThanOrEqual((4 + 16 + 20 * seconds) / 4);
  });

  it('cannot keep the toolstack from removing its device at once', async () => {
    await flip(100);
    expect(guest().watchEventsDelayed).toBeGreaterThan(0);
    await world.delete();
    await expect.poll(() => world.device(), { timeout: 2000 }).toBe(undefined);
    expect([...world.bus.guests]).toEqual([]);
  });

  it('does not take the turns of another device’s first connection', async () => {
    await flip(200);
    await world.create(8);
    await world.connect(8);
    expect(world.toysOf(8)[0].calls).toEqual(['prepare', 'connect']);
  });
});

it('errors that a guest causes again and again are written to its error node at a pace, the last one in the end', async () => {
  await using world = await ToyWorld.create();
  await world.start({ guestPaces: { errorNodes: { burst: 2, perSecond: 5 } } });
  await world.create();
  await world.connect();
  const [toy] = world.toys;
  const node = '/local/domain/0/error/backend/toy/5/7/error';
  for (let i = 0; i <= 300; i++) toy.context.report(new Error(`nonsense ${i}`));
  await expect.poll(() => world.outside.tryRead(node), { timeout: 5000 }).toMatch(/nonsense 300$/);
  expect(world.errors).toHaveLength(301);
  const [{ errorNodes, errorNodesDelayed }] = world.bus.guests;
  expect(errorNodes).toBeLessThan(8);
  expect(errorNodes + errorNodesDelayed).toBeGreaterThanOrEqual(301);
});
