import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { errorNodePath } from './error-nodes/error-node.js';
import { Faults } from './testing/faulty-transport.js';
import { type Toy, ToyWorld } from './testing/toy-world.js';

const forEver = () => new Promise<void>(() => {});
const untilAborted = (signal: AbortSignal | undefined) =>
  new Promise<void>((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
const codeOf = (code: string) => expect.objectContaining({ code });

/** Whether anything of a bus is left: a watch would poke a device that was created now. */
async function nothingIsLeft(world: ToyWorld): Promise<void> {
  const before = world.toys.length;
  await world.create(99);
  for (let i = 0; i < 200; i++) await turn();
  expect(world.toys).toHaveLength(before);
  expect(await world.outside.read(`${world.back(99)}/state`)).toBe('1');
}

describe('discovery', () => {
  it('goes on after looks that failed, and finds what was created in the meantime', async () => {
    let broken = false;
    await using world = await ToyWorld.create({ faults: new Faults(() => (broken ? 'EIO' : undefined)) });
    await world.start();
    broken = true;
    await world.create(7);
    await world.create(8);
    await vi.waitFor(() => expect(world.errors.length).toBeGreaterThan(2), 10_000);
    expect(world.errors[0].error).toMatchObject({ code: 'EIO' });
    broken = false;
    await world.backendIs([2], 7);
    await world.backendIs([2], 8);
  });

  it('does not try again and again without a pause', async () => {
    let broken = false;
    const faults = new Faults(() => (broken ? 'ENOSPC' : undefined));
    await using world = await ToyWorld.create({ faults });
    await world.start();
    await world.create(7);
    await world.connect(7);
    broken = true;
    const before = faults.count;
    await world.create(8);
    await world.frontend(5, 7);
    await vi.waitFor(() => expect(world.errors.length).toBeGreaterThan(6), 10_000);
    // Each look is a few requests; without pauses there would be thousands.
    expect((faults.count - before) / world.errors.length).toBeLessThan(12);
    const looks = world.errors.length;
    for (let i = 0; i < 500; i++) await turn();
    expect(world.errors.length - looks).toBeLessThan(4);
    broken = false;
    await world.backendIs([2], 8);
    await world.backendIs([5], 7);
  });

  it('goes on when the connection is lost and comes back', async () => {
    await using world = await ToyWorld.create();
    const bus = await world.start();
    await world.create(7);
    await world.connect(7);
    for (let devid = 10; devid < 15; devid++) {
      world.transports.at(-1)?.lose();
      await world.create(devid);
      await world.connect(devid);
    }
    expect(world.toysOf(7).map(({ calls }) => calls)).toEqual([['prepare', 'connect']]);
    await bus.close();
    expect(await bus.closed).toBeUndefined();
  });

  it('tells its end when the client broke for good, and what is served goes on until the bus is closed', async () => {
    await using world = await ToyWorld.create({ reconnects: false });
    const bus = await world.start();
    await world.create(7);
    await world.connect(7);
    world.transports[0].lose();
    expect(await bus.closed).toMatchObject({ code: 'ERR_CLOSED' });
    expect(world.toysOf(7)[0].calls).toEqual(['prepare', 'connect']);
    await bus.close();
    await bus.close();
    expect(world.toysOf(7)[0].calls).toEqual(['prepare', 'connect', 'disconnect', 'leave']);
    expect(await world.outside.read(`${world.back(7)}/state`)).toBe('4');
  });

  it('tells its end when the client was closed under it', async () => {
    await using world = await ToyWorld.create();
    const bus = await world.start();
    await world.store.close();
    expect(await bus.closed).toMatchObject({ code: 'ERR_CLOSED', op: 'discover' });
  });
});

describe('a start that fails', () => {
  it('leaves nothing running when a look fails, though devices were found', async () => {
    for (let place = 0; place < 14; place++) {
      await using world = await ToyWorld.create({ faults: Faults.once(place, 'EIO') });
      await world.create(7);
      const error = await world.start({ types: ['toy', 'other'] }).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      if (error === undefined) continue;
      expect(error).toMatchObject({ code: 'EIO' });
      await nothingIsLeft(world);
      for (const { calls } of world.toys) expect(calls.at(-1)).toBe('leave');
    }
  });

  it('leaves nothing running when the second type cannot be watched', async () => {
    await using world = await ToyWorld.create({ faults: Faults.once(1, 'ENOSPC') });
    await expect(world.start({ types: ['toy', 'other'] })).rejects.toThrow(codeOf('ENOSPC'));
    await nothingIsLeft(world);
  });
});

describe('the own domain', () => {
  it('is read, if it is not given', async () => {
    await using world = await ToyWorld.create();
    await world.outside.write('domid', 0);
    expect((await world.start({ ownDomid: undefined })).ownDomid).toBe(0);
  });

  it.each([
    ['is missing', undefined, /"domid".* is missing; in dom0 run xen-init-dom0/],
    ['is no number', 'dom0', /"domid".* is "dom0"/],
    ['is no domain', '32752', /"domid".* is "32752"/],
  ])('that %s is an error, not domain 0', async (_title, text, message) => {
    await using world = await ToyWorld.create();
    if (text !== undefined) await world.outside.write('domid', text);
    const start = world.start({ ownDomid: undefined });
    await expect(start).rejects.toThrow(codeOf('ERR_DOMID'));
    await expect(start).rejects.toThrow(message);
    await nothingIsLeft(world);
  });

  it('that cannot be read is an error that says why', async () => {
    await using world = await ToyWorld.create({ faults: Faults.once(0, 'EIO') });
    const start = world.start({ ownDomid: undefined });
    await expect(start).rejects.toThrow(/cannot be read: .*EIO/);
    await expect(start).rejects.toThrow(codeOf('ERR_DOMID'));
  });
});

describe('a handler that hangs', () => {
  const hang = (method: string, fn: (signal: AbortSignal | undefined) => Promise<void>) => {
    let calls = 0;
    return (called: string, toy: Toy, signal: AbortSignal | undefined) => {
      if (called !== method || toy.context.address.devid !== 7 || calls++ > 0) return;
      return fn(signal);
    };
  };

  it.each(['prepare', 'connect'])('in %s is told by its signal when the bus closes', async (method) => {
    await using world = await ToyWorld.create();
    world.act = hang(method, untilAborted);
    const bus = await world.start();
    await world.create(7);
    if (method === 'connect') await world.backendIs([2]).then(() => world.frontend(3));
    await vi.waitFor(() => expect(world.toys[0]?.calls).toContain(method));
    await bus.close();
    expect(world.toys[0].calls.slice(-2)).toEqual(['disconnect', 'leave']);
    expect(world.errors).toEqual([]);
    expect(await world.outside.read(`${world.back()}/state`)).toBe(method === 'connect' ? '2' : '1');
  });

  it.each(['prepare', 'connect'])(
    'in %s is told by its signal when the toolstack deletes the device',
    async (method) => {
      await using world = await ToyWorld.create();
      world.act = hang(method, untilAborted);
      await world.start();
      await world.create(7);
      if (method === 'connect') await world.backendIs([2]).then(() => world.frontend(3));
      await vi.waitFor(() => expect(world.toys[0]?.calls).toContain(method));
      await world.delete(7);
      await vi.waitFor(() => expect(world.toys[0].calls.slice(-2)).toEqual(['disconnect', 'close']));
      await world.create(7);
      await world.connect(7);
      expect(world.errors).toEqual([]);
    },
  );

  it.each(['prepare', 'connect'])(
    'in %s is told by its signal when the toolstack unplugs the device',
    async (method) => {
      await using world = await ToyWorld.create();
      world.act = hang(method, untilAborted);
      await world.start();
      await world.create(7);
      if (method === 'connect') await world.backendIs([2]).then(() => world.frontend(3));
      await vi.waitFor(() => expect(world.toys[0]?.calls).toContain(method));
      await world.remove(7);
      await vi.waitFor(() => expect([...world.bus.devices]).toEqual([]));
      expect(world.toys[0].calls.slice(-2)).toEqual(['disconnect', 'close']);
    },
  );

  it('in connect is told by its signal when the frontend goes, and connects to the next', async () => {
    await using world = await ToyWorld.create();
    world.act = hang('connect', untilAborted);
    await world.start();
    await world.create(7);
    await world.backendIs([2]);
    await world.frontend(3);
    await vi.waitFor(() => expect(world.toys[0]?.calls).toContain('connect'));
    await world.frontend(6);
    await world.backendIs([6]);
    await world.frontend(1);
    await world.connect(7);
    expect(world.errors).toEqual([]);
  });

  it('in prepare is told by its signal when the frontend is deleted', async () => {
    await using world = await ToyWorld.create();
    world.act = hang('prepare', untilAborted);
    await world.start();
    await world.create(7);
    await vi.waitFor(() => expect(world.toys[0]?.calls).toContain('prepare'));
    await world.outside.remove(world.front());
    await vi.waitFor(() => expect(world.toys[0].signals[0].aborted).toBe(true));
    await world.backendIs([6]);
  });

  it.each(['prepare', 'connect'])(
    'in %s and ignores its signal is left behind, and closed when it ends',
    async (method) => {
      await using world = await ToyWorld.create();
      let end = () => {};
      world.act = hang(method, () => new Promise((resolve) => (end = resolve)));
      await world.start({ abortTimeoutMs: 30 });
      await world.create(7);
      if (method === 'connect') await world.backendIs([2]).then(() => world.frontend(3));
      await vi.waitFor(() => expect(world.toys[0]?.calls).toContain(method));
      await world.delete(7);
      await vi.waitFor(() => expect(world.errors.map(({ error }) => error)).toEqual([codeOf('ETIMEDOUT')]));
      await world.create(7);
      await world.connect(7);
      expect(world.toys[0].calls.at(-1)).toBe(method);
      end();
      await vi.waitFor(() => expect(world.toys[0].calls.slice(-2)).toEqual(['disconnect', 'close']));
    },
  );

  it.each(['prepare', 'connect', 'changed', 'disconnect', 'close'])(
    'in %s for ever does not stop the end',
    async (method) => {
      await using world = await ToyWorld.create();
      const bus = await world.start({ abortTimeoutMs: 30, stopTimeoutMs: 60 });
      await world.create(8);
      await world.connect(8);
      world.act = hang(method, forEver);
      await world.create(7);
      if (method !== 'prepare' && method !== 'changed') await world.backendIs([2]).then(() => world.frontend(3));
      if (method === 'disconnect' || method === 'close') await world.backendIs([4]);
      else if (method === 'changed') await vi.waitFor(() => expect(world.toysOf(7)[0]?.values).toHaveLength(1));
      else await vi.waitFor(() => expect(world.toysOf(7)[0]?.calls).toContain(method));
      await bus.close();
      expect(world.errors).toMatchObject([{ address: { devid: 7 }, error: { code: 'ETIMEDOUT' } }]);
      expect(world.toysOf(8)[0].calls.slice(-2)).toEqual(['disconnect', 'leave']);
    },
  );
});

describe('what a handler must know', () => {
  const params = async (world: ToyWorld, value: string) =>
    vi.waitFor(() => expect(world.toys.at(-1)?.values.at(-1)).toEqual({ params: value }), 10_000);

  it('is told though it changed while the connection was away', async () => {
    let away = false;
    await using world = await ToyWorld.create({
      keys: ['params'],
      faults: new Faults(() => (away ? 'lost before' : undefined)),
    });
    await world.start();
    await world.create(7, { params: 'a' });
    await world.connect(7);
    await params(world, 'a');
    away = true;
    world.transports.at(-1)?.lose();
    await world.outside.write(`${world.back()}/params`, 'b');
    away = false;
    await params(world, 'b');
  });

  it('is told though it changed among a thousand other paths', async () => {
    await using world = await ToyWorld.create({ keys: ['params'] });
    await world.start();
    await world.create(7, { params: 'a' });
    await world.connect(7);
    await world.outside.transaction(async (tx) => {
      for (let i = 0; i < 500; i++) void tx.write(`${world.back()}/noise-${i}`, i).catch(() => {});
      await tx.write(`${world.back()}/params`, 'b');
    });
    await params(world, 'b');
  });

  it('QEMU 240cc11369: is told though it changed while the handler was preparing', async () => {
    await using world = await ToyWorld.create({ keys: ['params'] });
    let go = () => {};
    const waits = new Promise<void>((resolve) => (go = resolve));
    world.act = (method) => (method === 'prepare' ? waits : undefined);
    await world.start();
    await world.create(7, { params: 'a' });
    await vi.waitFor(() => expect(world.toys[0]?.calls).toEqual(['prepare']));
    await world.outside.write(`${world.back()}/params`, 'b');
    go();
    await params(world, 'b');
  });

  it('is told before the frontend is connected, and once for each value', async () => {
    await using world = await ToyWorld.create({ keys: ['params'] });
    await world.start();
    await world.create(7, { params: 'a' });
    await world.connect(7);
    await world.outside.write(`${world.back()}/other`, 'x');
    await world.outside.write(`${world.back()}/params`, 'a');
    await world.outside.write(`${world.back()}/params`, 'b');
    await params(world, 'b');
    expect(world.toys[0].values).toEqual([{ params: 'a' }, { params: 'b' }]);
  });
});

describe('error nodes', () => {
  const errors = (world: ToyWorld) => world.outside.tryDirectory('/local/domain/0/error/backend');
  const refuse = (method: string) => {
    if (method === 'prepare') throw Object.assign(new Error('no such toy'), { code: 'ENOENT' });
  };

  it('go with the device, and what is empty above them too', async () => {
    await using world = await ToyWorld.create();
    world.act = refuse;
    await world.start();
    await Promise.all([7, 8].map((devid) => world.create(devid)));
    await Promise.all([7, 8].map((devid) => world.backendIs([6], devid)));
    await world.delete(7);
    await vi.waitFor(async () =>
      expect(await world.outside.directory('/local/domain/0/error/backend/toy/5')).toEqual(['8']),
    );
    await world.delete(8);
    await vi.waitFor(async () => expect(await errors(world)).toBeUndefined());
    expect(await world.outside.directory('/local/domain/0/error')).toEqual([]);
  });

  it('that an earlier process left go when the next one starts, those of devices that are there stay', async () => {
    await using world = await ToyWorld.create();
    world.act = refuse;
    await world.create(8);
    for (const devid of [7, 8]) await world.outside.write(`${errorNodePath(0, world.address(devid))}/error`, 'EIO old');
    await world.outside.mkdir('/local/domain/0/error/backend/toy/6');
    await world.start();
    await world.backendIs([6], 8);
    expect(await world.outside.directory('/local/domain/0/error/backend/toy')).toEqual(['5']);
    expect(await world.outside.directory('/local/domain/0/error/backend/toy/5')).toEqual(['8']);
    expect(await world.outside.read(`${errorNodePath(0, world.address(8))}/error`)).toBe('ENOENT no such toy');
  });
});

describe('one device after another by the same number', () => {
  it('is served, though the one before could not be opened and both were exchanged between two looks', async () => {
    await using world = await ToyWorld.create();
    world.act = (method) => {
      if (method === 'prepare') throw new Error('no such toy');
    };
    await world.start();
    await world.create(7);
    await world.backendIs([6]);
    world.act = () => {};
    await world.outside.transaction(async (tx) => {
      await tx.write(`${world.back()}/state`, 1);
      await tx.write(`${world.front()}/state`, 1);
    });
    await world.connect(7);
  });

  it('is not marked by what the handler before it says late', async () => {
    await using world = await ToyWorld.create();
    await world.start();
    await world.create(7);
    await world.connect(7);
    await world.delete(7);
    await world.create(7);
    await world.connect(7);
    const [before, now] = world.toysOf(7);
    before.context.fail(new Error('late'));
    await before.context.update({ toys: 1 });
    await now.context.update({ toys: 5 });
    for (let i = 0; i < 100; i++) await turn();
    expect(await world.outside.read(`${world.back()}/state`)).toBe('4');
    expect(await world.outside.read(`${world.back()}/toys`)).toBe('5');
    expect(world.errors).toEqual([]);
  });
});
