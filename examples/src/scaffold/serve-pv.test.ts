import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RawPage } from '@xenpv/blkfront/testing';
import { Errno, GrantCopyBatch } from '@xenpv/xen-sys';
import {
  attachDevice,
  deleteDevice,
  errorNodePath,
  FrontendDevice,
  type LentPages,
  type PvConnection,
  removeDevice,
  servePv,
  XenbusError,
  XenbusState,
} from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EchoWorld, type Hook, type KEYS, until } from './echo-world.js';

const NOTHING = { mapped: 0, ports: 0 };

let world: EchoWorld;

beforeEach(async () => {
  world = await EchoWorld.create();
});

afterEach(() => world[Symbol.asyncDispose]());

/** Never ends by itself. */
const untilAborted = (signal: AbortSignal) =>
  new Promise<void>((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });

describe('a backend of a class of one’s own', () => {
  it('serves a frontend: typed keys, published keys, events both ways', async () => {
    const server = await world.serve();
    await world.attach(0, 'green');
    const frontend = await world.connect();
    const echo = server.devices.get('echo-1-0');
    expect(echo).toBe(world.made[0]);
    expect(echo?.colour).toBe('green');
    expect(server.bus.get(world.made[0].context.address)).toMatchObject({
      state: XenbusState.connected,
      connected: true,
    });
    expect(await frontend.readBackend({ echoes: { type: 'uint' } })).toEqual({ echoes: 1 });
    const before = frontend.shared.page[0];
    frontend.shared.notify();
    await until(() => frontend.shared.page[0] > before);
    await frontend.close();
    expect(world.held).toEqual(NOTHING);
    expect(await world.error()).toBeUndefined();
  });

  it('hears of the keys that the toolstack changes', async () => {
    await world.serve();
    await world.attach(0, 'green');
    await world.connect();
    await world.store.write(`${world.back()}/colour`, 'blue');
    await until(() => world.made[0].colour === 'blue');
  });

  it('shares one event-channel handle and one grant handle among its devices', async () => {
    const { eventHandles } = world.host.usage(0);
    await world.serve();
    for (const devid of [0, 1, 2]) await world.attach(devid);
    const frontends = await Promise.all([0, 1, 2].map((devid) => world.connect({ devid })));
    expect(world.host.usage(0).eventHandles).toBe(eventHandles + 1);
    const counts = frontends.map(({ shared }) => shared.page[0]);
    frontends[1].shared.notify();
    await until(() => frontends[1].shared.page[0] > counts[1]);
    await frontends[1].close();
    frontends[2].shared.notify();
    await until(() => frontends[2].shared.page[0] > counts[2]);
  });
});

describe('what a guest wrote becomes the device’s error, and disturbs no other', () => {
  const badKeys: readonly [what: string, keys: Record<string, string | number>, error: RegExp][] = [
    ['a key that is missing', { 'page-ref': 8 }, /^ENOENT .*event-channel.*expected a port/],
    ['no keys at all', {}, /^ENOENT .*page-ref/],
    ['a key that is nonsense', { 'page-ref': 'x', 'event-channel': 1 }, /^ERR_INVALID_VALUE .*"x".*whole number/],
    ['a number that is too large', { 'page-ref': 2 ** 32, 'event-channel': 1 }, /^ERR_INVALID_VALUE .*from 0 to/],
    [
      'a grant that is none',
      { 'page-ref': 500_000, 'event-channel': 1 },
      /^EINVAL the grant 500000 of domain 1 cannot be mapped/,
    ],
  ];

  it.each(badKeys)('%s', async (_what, keys, error) => {
    await world.serve();
    await world.attach(0);
    await world.attach(1);
    const well = await world.connect({ devid: 1 });
    const bad = world.connect({ publish: () => ({ keys, shared: { page: Buffer.alloc(0), notify: () => {} } }) });
    await expect(bad).rejects.toMatchObject({ code: 'ERR_HANDSHAKE' });
    expect(await world.error()).toMatch(error);
    const before = well.shared.page[0];
    well.shared.notify();
    await until(() => well.shared.page[0] > before);
    expect(world.guest.usage().mapped).toBe(1);
  });

  it('a port that is not left for us; the page that was mapped before is given back', async () => {
    await world.serve();
    await world.attach();
    const bad = world.connect({
      publish: ({ link }) => {
        const { refs, bytes } = link.grant();
        return { keys: { 'page-ref': refs[0], 'event-channel': 77 }, shared: { page: bytes, notify: () => {} } };
      },
    });
    await expect(bad).rejects.toMatchObject({ code: 'ERR_HANDSHAKE' });
    expect(await world.error()).toMatch(/^EINVAL port 77 of domain 1 cannot be bound/);
    expect(world.held).toEqual(NOTHING);
    // The guest mends it, and is served.
    const frontend = await world.connect();
    expect(frontend.connected).toBe(true);
  });

  it('a page that is granted to be read only', async () => {
    await world.serve();
    await world.attach();
    const bad = world.connect({
      publish: ({ link }) => {
        const { refs, bytes } = link.grant(1, { writable: false });
        const { port } = link.bind(() => {});
        return { keys: { 'page-ref': refs[0], 'event-channel': port }, shared: { page: bytes, notify: () => {} } };
      },
    });
    await expect(bad).rejects.toMatchObject({ code: 'ERR_HANDSHAKE' });
    expect(await world.error()).toMatch(/read-only/);
  });
});

describe('a hook that throws fails its device, and not the process', () => {
  /** Throws in a hook of device 0. */
  const failIn = (hook: Hook) => {
    world.act = (now, { context }) => {
      if (now === hook && context.address.devid === 0) throw new Error(`no ${hook}`);
    };
  };

  it.each(['create', 'prepare'] as const)('%s: the device is closed', async (hook) => {
    failIn(hook);
    await world.serve();
    await world.attach();
    await expect(world.connect()).rejects.toMatchObject({ code: 'ERR_HANDSHAKE' });
    expect(await world.error()).toBe(`EIO no ${hook}`);
  });

  it('connect: after the page was mapped and the port bound, both are given back', async () => {
    failIn('connect');
    await world.serve();
    await world.attach();
    await expect(world.connect()).rejects.toMatchObject({ code: 'ERR_HANDSHAKE' });
    expect(await world.error()).toBe('EIO no connect');
    expect(world.held).toEqual(NOTHING);
    expect(world.made[0].calls).toContain('disconnect');
  });

  it.each([
    [
      'throws',
      () => {
        throw new Error('no event');
      },
    ],
    ['rejects', () => Promise.reject(new Error('no event'))],
  ] as const)('a listener that %s: Closing, and the other device is served on', async (_how, fail) => {
    await world.serve();
    await world.attach(0);
    await world.attach(1);
    const [bad, well] = [await world.connect(), await world.connect({ devid: 1 })];
    world.act = (now, { context }) => (now === 'event' && context.address.devid === 0 ? fail() : undefined);
    bad.shared.notify();
    expect(await bad.disconnected).toMatchObject({ code: 'ERR_CLOSED', message: expect.stringContaining('Closing') });
    expect(await world.error()).toBe('EIO no event');
    const before = well.shared.page[0];
    well.shared.notify();
    await until(() => well.shared.page[0] > before);
    world.act = () => {};
    await bad.reconnect();
    expect(bad.connected).toBe(true);
  });

  it('disconnect: page and port are given back all the same, and another object serves the next connection', async () => {
    failIn('disconnect');
    await world.serve();
    await world.attach();
    const frontend = await world.connect();
    await frontend.close();
    await until(async () => (await world.error()) === 'EIO no disconnect');
    expect(world.held).toEqual(NOTHING);
    world.act = () => {};
    await world.connect();
    expect(world.made).toHaveLength(2);
  });

  it('changed: it is told, and the device goes on', async () => {
    await world.serve();
    await world.attach(0, 'green');
    const frontend = await world.connect();
    failIn('changed');
    await world.store.write(`${world.back()}/colour`, 'blue');
    await until(async () => (await world.error()) === 'EIO no changed');
    world.act = () => {};
    await world.store.write(`${world.back()}/colour`, 'red');
    await until(() => world.made[0].colour === 'red');
    expect(frontend.connected).toBe(true);
  });

  it('close: the device can be removed', async () => {
    failIn('close');
    await world.serve();
    const attached = await world.attach();
    const frontend = await world.connect();
    await frontend.close();
    await removeDevice(world.store, attached);
    await until(() => world.servers[0].devices.size === 0);
  });
});

describe('a connection that ends', () => {
  it('while connect waits: its signal is aborted, and everything is given back', async () => {
    world.act = (hook, _device, signal) => (hook === 'connect' ? untilAborted(signal!) : undefined);
    await world.serve();
    await world.attach();
    const giveUp = new AbortController();
    const connecting = world.connect({ signal: giveUp.signal });
    await until(() => world.held.ports > 0 && world.held.mapped > 0);
    giveUp.abort(new Error('enough'));
    await expect(connecting).rejects.toThrow('enough');
    await until(() => world.held.ports === 0);
    expect(world.held).toEqual(NOTHING);
    world.act = () => {};
    await world.connect();
  });

  it('while connect hangs and does not listen to its signal: others are served, and what it holds is given back later', async () => {
    let letGo = () => {};
    const hanging = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    world.act = (hook, { context }) => (hook === 'connect' && context.address.devid === 0 ? hanging : undefined);
    await world.serve({ abortTimeoutMs: 50 });
    const attached = await world.attach(0);
    await world.attach(1);
    const connecting = world.connect().catch((error: unknown) => error);
    await until(() => world.held.mapped > 0);
    await deleteDevice(world.store, attached);
    await connecting;
    await world.connect({ devid: 1 });
    letGo();
    await until(() => world.made[0].calls.includes('close'));
    expect(world.guest.usage().mapped).toBe(1);
  });

  it('and begins again has other pages; the link of the one before is of no use', async () => {
    await world.serve();
    await world.attach();
    const rounds: unknown[] = [];
    const frontend = await world.connect({
      publish: ({ link }) => {
        // The second time another page is given out before.
        if (rounds.push(link) > 1) link.grant();
        const { refs, bytes } = link.grant();
        const channel = link.bind(() => {});
        const shared = { page: bytes, notify: () => void channel.notify() };
        return { keys: { 'page-ref': refs[0], 'event-channel': channel.port }, shared };
      },
    });
    const { shared } = frontend;
    const [echo] = world.made;
    const before = echo.connection!;
    await frontend.reconnect();
    expect(echo.connection!.keys).not.toEqual(before.keys);
    expect(frontend.shared).not.toBe(shared);
    expect(echo.calls).toEqual(['prepare', 'connect', 'disconnect', 'connect']);
    expect(before.link.signal.reason).toMatchObject({ code: 'ERR_CLOSED' });
    expect(() => before.link.map(before.keys['page-ref'], { writable: true })).toThrow(XenbusError);
    expect(() => before.link.bind(1, () => {})).toThrow('echo-1-0 is disconnected');
    expect(world.held).toEqual({ mapped: 1, ports: 1 });
    const count = frontend.shared.page[0];
    frontend.shared.notify();
    await until(() => frontend.shared.page[0] > count);
  });

  it('while a listener is at work: it is waited for, with its page still there', async () => {
    await world.serve();
    await world.attach();
    const frontend = await world.connect();
    const order: string[] = [];
    world.act = async (hook, { page, connection }) => {
      if (hook === 'event') {
        order.push('event');
        await untilAborted(connection!.link.signal).catch(() => {});
        page[1] = 1;
      }
      order.push(`${hook} done`);
    };
    frontend.shared.notify();
    await until(() => order.length === 1);
    // A second event is not told while the listener is at work.
    frontend.shared.notify();
    await frontend.close();
    expect(order.slice(0, 3)).toEqual(['event', 'event done', 'disconnect done']);
    expect(world.held).toEqual(NOTHING);
  });

  it('while prepare waits: its signal is aborted, and the device is let go of', async () => {
    const reasons: unknown[] = [];
    world.act = (hook, _device, signal) =>
      hook === 'prepare' ? untilAborted(signal!).catch((error: unknown) => void reasons.push(error)) : undefined;
    await world.serve();
    const attached = await world.attach();
    await until(() => world.made.length === 1 && world.made[0].calls.length === 1);
    await removeDevice(world.store, attached);
    await until(() => world.servers[0].devices.size === 0);
    expect(reasons).toHaveLength(1);
    expect(world.made[0].calls).toEqual(['prepare', 'close']);
  });

  it('while a listener hangs: its page is taken back after a while, which is reported', async () => {
    await world.serve();
    await world.attach();
    const frontend = await world.connect({ closeTimeoutMs: 20_000 });
    world.act = (hook) => (hook === 'event' ? new Promise(() => {}) : undefined);
    const before = frontend.shared.page[0];
    frontend.shared.notify();
    await until(() => frontend.shared.page[0] > before);
    await frontend.close();
    expect(await world.error()).toMatch(/^ETIMEDOUT a listener of echo-1-0 did not end within 5000 ms/);
    expect(world.held).toEqual(NOTHING);
    world.act = () => {};
    await world.connect();
  });

  it('with its guest: nothing is held, and the device is forgotten', async () => {
    await world.serve();
    await world.attach();
    const other = await world.host.createDomain({ name: 'another' });
    await world.connect();
    await deleteDevice(world.store, { backendDomid: 0, address: world.made[0].context.address, frontendType: 'echo' });
    await world.guest.destroy();
    await until(() => world.servers[0].devices.size === 0 && world.host.usage(0).ports === 0);
    expect(world.made[0].calls.slice(-2)).toEqual(['disconnect', 'close']);
    expect(other.alive).toBe(true);
  });

  it('takes back the buffers of its copies, and registers none after', async () => {
    let batch = new GrantCopyBatch(1);
    world.act = (hook, device) => {
      if (hook !== 'connect') return;
      const { keys, link } = device.connection!;
      const buffer = new ArrayBuffer(8);
      batch = new GrantCopyBatch(1, link.register(buffer));
      batch.toGrant(link.domid, keys['page-ref'], 0, 0, 8);
      new Uint8Array(buffer).fill(7);
      expect(link.grants.copy(batch)).toBe(0);
    };
    await world.serve();
    await world.attach();
    const frontend = await world.connect();
    expect(frontend.shared.page.subarray(4, 9)).toEqual(Buffer.of(7, 7, 7, 7, 0));
    const { link } = world.made[0].connection!;
    await frontend.close();
    expect(link.grants.copy(batch)).toBe(Errno.EFAULT);
    expect(() => link.register(new ArrayBuffer(8))).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
  });

  it('has listeners that may map and unmap, and unmap twice', async () => {
    await world.serve();
    await world.attach();
    await world.connect();
    const { link, keys } = world.made[0].connection!;
    const again = link.map([keys['page-ref']], { writable: false });
    link.unmap(again);
    link.unmap(again);
    expect(() => link.map([], { writable: false })).toThrow('expected grant references');
    expect(() => link.map(-1, { writable: false })).toThrow('expected grant references');
    expect(() => link.bind(1.5, () => {})).toThrow('expected a number');
    expect(world.held).toEqual({ mapped: 1, ports: 1 });
  });
});

describe('a ring of several pages', () => {
  const serveRings = (order: number) =>
    servePv({
      provider: world.host.provider(0),
      store: world.store,
      type: 'ring',
      keys: { 'ring-page-order': { type: 'uint', max: 4 } },
      device: () => ({
        connect: async ({ keys, link, readMore }) => {
          const names = Array.from({ length: 2 ** keys['ring-page-order'] }, (_, page) => `ring-ref${page}`);
          const refs = await readMore(
            Object.fromEntries(names.map((name) => [name, { type: 'uint' }] as const)),
            'queue-0',
          );
          const pages = link.map(Object.values(refs), { writable: true });
          expect(pages).toHaveLength(4096 << order);
          pages.write('end', pages.length - 3);
        },
      }),
    });

  const connectRing = (order: number, missing: number) =>
    FrontendDevice.connect({
      provider: world.guest.provider,
      store: world.guestStore,
      type: 'ring',
      devid: 0,
      publish: ({ link }) => {
        const { refs, bytes } = link.grant(2 ** order);
        const queue = refs.slice(missing).map((ref, page) => [`queue-0/ring-ref${page + missing}`, ref]);
        return { keys: { 'ring-page-order': order, ...Object.fromEntries(queue) }, shared: bytes };
      },
    });

  it('is mapped as one buffer, by keys whose names follow from its order', async () => {
    await using _server = await serveRings(2);
    await attachDevice(world.store, world.guest.domid, { type: 'ring' });
    await using frontend = await connectRing(2, 0);
    expect(frontend.shared.toString('utf8', 4096 * 4 - 3)).toBe('end');
    expect(world.held).toEqual({ mapped: 4, ports: 0 });
  });

  it('of which one key is missing fails its device', async () => {
    await using _server = await serveRings(1);
    const { address } = await attachDevice(world.store, world.guest.domid, { type: 'ring' });
    await expect(connectRing(1, 1)).rejects.toMatchObject({ code: 'ERR_HANDSHAKE' });
    expect(await world.store.read(`${errorNodePath(0, address)}/error`)).toMatch(/^ENOENT .*queue-0\/ring-ref0/);
    expect(world.held).toEqual(NOTHING);
  });
});

describe('the backend', () => {
  it('is closed twice, and the next one adopts its frontend', async () => {
    const server = await world.serve();
    await world.attach();
    const frontend = await world.connect();
    await Promise.all([server.close(), server.close()]);
    expect(await server.closed).toBeUndefined();
    expect(world.made[0].calls.slice(-2)).toEqual(['leave', 'close']);
    expect(await world.state()).toBe(XenbusState.connected);
    expect(world.held).toEqual(NOTHING);
    const before = frontend.shared.page[0];
    frontend.shared.notify();
    const next = await world.serve();
    await next.settled();
    expect(world.made[1].calls).toEqual(['prepare', 'adopt']);
    await until(() => frontend.shared.page[0] > before);
    expect(frontend.connected).toBe(true);
  });

  it('holds a frontend that it cannot adopt, and serves it when asked again', async () => {
    const server = await world.serve();
    await world.attach();
    const frontend = await world.connect();
    await server.close();
    world.act = (hook) => {
      if (hook === 'connect') throw new Error('not now');
    };
    const next = await world.serve();
    await next.settled();
    const device = next.bus.get(world.made[0].context.address);
    expect(device?.held).toMatchObject({ reason: 'not now' });
    expect(world.held).toEqual(NOTHING);
    world.act = () => {};
    device?.retry();
    await until(() => device?.connected);
    expect(frontend.connected).toBe(true);
  });

  it('lets go of a frontend that it must not adopt, and serves it when it comes back', async () => {
    const first = await world.serve();
    await world.attach();
    const frontend = await world.connect();
    await first.close();
    world.act = (hook, { context, calls }) => {
      if (hook === 'connect' && calls.includes('adopt')) context.fail(new Error('no ring any more'));
    };
    await world.serve();
    expect(await frontend.disconnected).toMatchObject({ code: 'ERR_CLOSED' });
    expect(await world.error()).toBe('EIO no ring any more');
    expect(world.held).toEqual(NOTHING);
    world.act = () => {};
    await frontend.reconnect();
    expect(await world.error()).toBeUndefined();
  });

  it('closes when its signal is aborted', async () => {
    const stop = new AbortController();
    const server = await world.serve({ signal: stop.signal });
    await world.attach();
    await world.connect();
    stop.abort();
    expect(await server.closed).toBeUndefined();
    await server.close();
    expect(world.held).toEqual(NOTHING);
    expect(world.host.usage(0).eventHandles).toBe(0);
  });

  it('does not start with a signal that is aborted already', async () => {
    await expect(world.serve({ signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no');
    expect(world.host.usage(0).eventHandles).toBe(0);
  });

  it('whose xenstored does not answer gives its start up when the signal is aborted', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'silent-'));
    const path = join(folder, 'socket');
    const sockets: Socket[] = [];
    const server = createServer((socket) => sockets.push(socket)).listen(path);
    await once(server, 'listening');
    const silent = await XenstoreClient.connect({ path });
    const stop = new AbortController();
    const starting = world.serve({ store: silent, signal: stop.signal });
    await until(() => world.host.usage(0).eventHandles === 1);
    stop.abort(new Error('too slow'));
    await expect(starting).rejects.toThrow('too slow');
    // The request that was sent goes on waiting until its xenstored ends.
    for (const socket of sockets) socket.destroy();
    await silent.close();
    server.close();
    await rm(folder, { recursive: true });
    await until(() => world.host.usage(0).eventHandles === 0);
  });

  it('that cannot start leaves nothing open', async () => {
    const closed = XenstoreClient.open(await world.host.provider(0).connectXenstore());
    await closed.close();
    await expect(world.serve({ store: closed })).rejects.toMatchObject({ code: 'ERR_DOMID' });
    await until(() => world.host.usage(0).eventHandles === 0);
  });

  it('whose connection to xenstored ends tells so, and can be closed', async () => {
    const store = XenstoreClient.open(await world.host.provider(0).connectXenstore());
    const server = await world.serve({ store });
    await store.close();
    expect(await server.closed).toMatchObject({ code: 'ERR_CLOSED' });
    await server.close();
  });
});

/** Never run: the compiler says what holds for whoever declares references and ports as what they are. */
export function isCompiled({ keys, link }: PvConnection<typeof KEYS>, lent: LentPages, raw: RawPage): void {
  const channel = link.bind(keys['event-channel'], () => {});
  link.map(keys['page-ref'], { writable: true });
  link.map(lent.refs, { writable: true });
  // @ts-expect-error a port is no grant reference
  link.map(keys['event-channel'], { writable: true });
  // @ts-expect-error a grant reference is no port
  link.bind(keys['page-ref'], () => {});
  // @ts-expect-error a port is no grant reference
  link.map(channel.port, { writable: true });
  // @ts-expect-error a lent page is no port
  link.bind(lent.refs[0], () => {});
  // @ts-expect-error a raw page is no port
  link.bind(raw.gref, () => {});
}
