import { setImmediate as turn } from 'node:timers/promises';
import { XenstoreClient } from '@xenpv/xenstore';
import { EmulatedXenstored } from '@xenpv/xenstored';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ToyWorld } from '../testing/toy-world.js';

const SOON = { timeout: 10_000 };

let stores: EmulatedXenstored[];
let world: ToyWorld;
/** A connection to the xenstored that answers now. */
let outside: XenstoreClient;

beforeEach(async () => {
  stores = [new EmulatedXenstored()];
  world = await ToyWorld.create({ connect: async () => stores[stores.length - 1].connect(0) });
  outside = world.outside;
  await world.start();
  await world.create();
  await world.connect();
  await vi.waitFor(() => expect(world.device()?.connected).toBe(true));
});
afterEach(async () => {
  await world[Symbol.asyncDispose]();
  await outside.close();
  for (const xenstored of stores) await xenstored.close();
});

/** Another xenstored answers, which knows nothing. */
async function startEmptyXenstored(): Promise<void> {
  stores.push(new EmulatedXenstored());
  if (outside !== world.outside) await outside.close();
  outside = XenstoreClient.open(stores[stores.length - 1].connect(0));
  world.transports.at(-1)?.lose();
}

/** Writes what the first xenstored has below `path` to the one that answers now. */
async function restore(path: string): Promise<void> {
  await outside.write(path, await world.outside.read(path));
  for (const name of await world.outside.directory(path)) await restore(`${path}/${name}`);
}

const isOrphan = () => vi.waitFor(() => expect(world.device()?.orphanedSince).toBeInstanceOf(Date), SOON);
const isKnown = () => vi.waitFor(() => expect(world.device()?.orphanedSince).toBeUndefined(), SOON);
const isGone = () => vi.waitFor(() => expect(world.device()).toBeUndefined(), SOON);
const isServed = () => expect(world.toys.map(({ calls }) => calls)).toEqual([['prepare', 'connect']]);

describe('a device that is served while xenstored is started anew without its nodes', () => {
  it('is served on, and known again when they are back', async () => {
    await startEmptyXenstored();
    await isOrphan();
    // It is not written: the whole directory would be owned by nobody who knows it.
    await world.toys[0].context.update({ toys: 3 });
    for (let i = 0; i < 200; i++) await turn();
    expect(await outside.exists('/local')).toBe(false);
    await restore('/local');
    await isKnown();
    await vi.waitFor(async () => expect(await outside.tryRead(`${world.back()}/toys`)).toBe('3'), SOON);
    isServed();
    expect(world.written.filter((state) => /Clos/.test(state))).toEqual([]);
  });

  it('is served on while they come back one after the other, the frontend last', async () => {
    await startEmptyXenstored();
    await isOrphan();
    await outside.write('/local/domain/0/backend/toy/5/8/state', 1);
    await restore(world.back());
    for (let i = 0; i < 200; i++) await turn();
    await restore(world.front());
    await isKnown();
    isServed();
    expect(world.written.filter((state) => /-7 Clos/.test(state))).toEqual([]);
    await world.bus.close();
    expect(await outside.read(`${world.back()}/state`)).toBe('4');
  });

  it('is served on though it happens twice', async () => {
    await startEmptyXenstored();
    await isOrphan();
    await restore('/local/domain/5');
    await startEmptyXenstored();
    await vi.waitFor(() => expect(world.transports.length).toBe(3), SOON);
    await restore('/local');
    await isKnown();
    isServed();
  });

  it('is forgotten when its domain, which was made known, is gone', async () => {
    await startEmptyXenstored();
    await isOrphan();
    stores[1].introduceDomain(5);
    await vi.waitFor(() => expect(world.toys[0].calls).toEqual(['prepare', 'connect']));
    const { store } = world;
    const asked = vi.spyOn(store, 'isDomainIntroduced');
    await vi.waitFor(() => expect(asked).toHaveBeenCalled(), SOON);
    stores[1].releaseDomain(5);
    await isGone();
    expect(world.toys[0].calls.slice(2)).toEqual(['disconnect', 'close']);
  });

  it('is left to the next process when the bus stops', async () => {
    await startEmptyXenstored();
    await isOrphan();
    await world.bus.close();
    expect(world.toys[0].calls.slice(2)).toEqual(['disconnect', 'leave']);
    expect(await outside.exists('/local')).toBe(false);
  });

  it('is made anew when a toolstack creates it again', async () => {
    await startEmptyXenstored();
    await isOrphan();
    await restore(world.front());
    await restore(world.back());
    await outside.write(`${world.front()}/state`, 1);
    await outside.write(`${world.back()}/state`, 1);
    await vi.waitFor(() => expect(world.toys.length).toBe(2), SOON);
    await vi.waitFor(async () => expect(await outside.tryRead(`${world.back()}/state`)).toBe('2'), SOON);
  });
});

describe('a device whose directory is gone', () => {
  it('with the directory of all backends, while its frontend is there, is served on', async () => {
    await outside.remove('/local/domain/0/backend');
    await isOrphan();
    isServed();
    await outside.remove('/local/domain/5');
    await isGone();
  });

  it('with the whole tree is served on', async () => {
    await outside.remove('/local/domain');
    await isOrphan();
    isServed();
  });

  it('alone is forgotten', async () => {
    await world.delete();
    await isGone();
    expect(world.toys[0].calls.at(-1)).toBe('close');
  });

  it('alone is forgotten while its frontend is there, and after the connection was lost', async () => {
    world.transports.at(-1)?.lose();
    await outside.remove(world.back());
    await isGone();
  });

  it('with all that is empty above it, as the last one of libxl, is forgotten', async () => {
    await outside.write('/local/domain/0/name', 'Domain-0');
    await outside.transaction(async (tx) => {
      await tx.remove(world.front());
      await tx.remove('/local/domain/0/backend');
    });
    await isGone();
  });

  it('with its domain, as the last one of libxl, is forgotten', async () => {
    await outside.write('/local/domain/0/name', 'Domain-0');
    await outside.transaction(async (tx) => {
      await tx.remove('/local/domain/5');
      await tx.remove('/local/domain/0/backend');
    });
    await isGone();
  });

  it('with its domain, whose nodes a driver domain may not look at, is forgotten', async () => {
    await outside.write('/local/domain/0/name', 'a driver domain');
    const { exists } = XenstoreClient.prototype;
    const refused = Object.assign(new Error('no permission'), { code: 'EACCES' });
    const spy = vi.spyOn(XenstoreClient.prototype, 'exists').mockImplementation(function (
      this: XenstoreClient,
      path,
      options,
    ) {
      return path === '/local/domain/5' ? Promise.reject(refused) : exists.call(this, path, options);
    });
    await outside.transaction(async (tx) => {
      await tx.remove('/local/domain/5');
      await tx.remove('/local/domain/0/backend');
    });
    await isGone();
    expect(spy).toHaveBeenCalled();
    spy.mockRestore();
  });

  it('is forgotten if it was held', async () => {
    world.act = () => {
      throw new Error('no image');
    };
    world.toys[0].context.hold(new Error('lost'));
    await vi.waitFor(() => expect(world.device()?.held).toBeDefined(), SOON);
    await world.delete();
    await isGone();
  });
});
