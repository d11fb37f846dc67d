import { deleteDevice, FrontendDevice, removeDevice, XenbusError, XenbusState } from '@xenpv/xenbus';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EchoWorld, until } from './echo-world.js';

let world: EchoWorld;

beforeEach(async () => {
  world = await EchoWorld.create();
});

afterEach(() => world[Symbol.asyncDispose]());

const nothingIsLeft = () => expect(world.guest.usage()).toMatchObject({ grants: 0, ports: 0, eventHandles: 0 });

describe('a frontend that cannot connect leaves nothing', () => {
  it('without such a device', async () => {
    await expect(world.connect({ devid: 9 })).rejects.toThrow('device/echo/9 has no backend: is the device attached?');
    nothingIsLeft();
  });

  it('with a signal that is aborted while no backend is there', async () => {
    await world.attach();
    const giveUp = new AbortController();
    const connecting = world.connect({ signal: giveUp.signal });
    giveUp.abort(new Error('enough'));
    await expect(connecting).rejects.toThrow('enough');
    nothingIsLeft();
  });

  it('with a signal that is aborted while the backend connects', async () => {
    const giveUp = new AbortController();
    world.act = (hook, _device, signal) => {
      if (hook !== 'connect') return;
      giveUp.abort(new Error('enough'));
      return new Promise((_, reject) => signal!.addEventListener('abort', () => reject(signal!.reason)));
    };
    await world.serve();
    await world.attach();
    await expect(world.connect({ signal: giveUp.signal })).rejects.toThrow('enough');
    nothingIsLeft();
  });

  it('when its publish throws after it has made pages and ports', async () => {
    await world.serve();
    await world.attach();
    const publish = ({ link }: { link: { grant(): unknown; bind(fn: () => void): unknown } }) => {
      link.grant();
      link.bind(() => {});
      throw new Error('no keys');
    };
    await expect(world.connect({ publish })).rejects.toThrow('no keys');
    nothingIsLeft();
  });

  it('when the device is removed while it waits for its backend', async () => {
    const attached = await world.attach();
    const connecting = world.connect();
    await Promise.all([
      expect(connecting).rejects.toMatchObject({ code: 'ERR_HANDSHAKE' }),
      deleteDevice(world.store, attached),
    ]);
    expect(await world.store.exists(`/local/domain/${world.guest.domid}/device/echo/0`)).toBe(false);
    nothingIsLeft();
  });
});

describe('a frontend that is connected', () => {
  it('follows a backend that the toolstack removes, and tells why', async () => {
    await world.serve();
    const attached = await world.attach();
    const frontend = await world.connect();
    await removeDevice(world.store, attached);
    const why = await frontend.disconnected;
    expect(why).toBeInstanceOf(XenbusError);
    expect(why).toMatchObject({ code: 'ERR_CLOSED', message: expect.stringMatching(/the backend .* went to Closing/) });
    expect(frontend.connected).toBe(false);
    nothingIsLeft();
  });

  it('follows one whose directory is gone', async () => {
    await world.serve();
    const attached = await world.attach();
    const frontend = await world.connect();
    await deleteDevice(world.store, attached);
    expect(await frontend.disconnected).toMatchObject({ code: 'ERR_CLOSED' });
    nothingIsLeft();
  });

  it('is closed twice at once, and again; then it cannot come back', async () => {
    await world.serve();
    await world.attach();
    const frontend = await world.connect();
    await Promise.all([frontend.close(), frontend.close()]);
    await frontend.close();
    expect(await frontend.disconnected).toBeUndefined();
    await expect(frontend.reconnect()).rejects.toMatchObject({ code: 'ERR_CLOSED' });
    expect(await world.state()).toBe(XenbusState.closed);
    nothingIsLeft();
  });

  it('is closed while it reconnects', async () => {
    await world.serve();
    await world.attach();
    const frontend = await world.connect();
    const again = frontend.reconnect().catch((error: unknown) => error);
    await frontend.close();
    await again;
    expect(frontend.connected).toBe(false);
    nothingIsLeft();
  });

  it('reconnects as often as it is asked, one time after the other', async () => {
    await world.serve();
    await world.attach();
    const frontend = await world.connect();
    await Promise.all([frontend.reconnect(), frontend.reconnect()]);
    expect(world.made[0].calls.filter((call) => call === 'connect')).toHaveLength(3);
    expect(world.guest.usage()).toMatchObject({ grants: 1, ports: 1 });
  });

  it('gives a reconnect up when its signal is aborted, and can try again', async () => {
    const server = await world.serve();
    await world.attach();
    const frontend = await world.connect();
    await frontend.reconnect();
    await server.close();
    const giveUp = new AbortController();
    const again = frontend.reconnect({ signal: giveUp.signal });
    giveUp.abort(new Error('enough'));
    await expect(again).rejects.toThrow('enough');
    await world.serve();
    await frontend.reconnect();
    expect(frontend.connected).toBe(true);
  });

  it('is closed when its own listener throws', async () => {
    await world.serve();
    await world.attach();
    const frontend = await world.connect({
      publish: ({ link }) => {
        const { refs, bytes } = link.grant();
        const channel = link.bind(() => {
          throw new Error('a wrong answer');
        });
        const shared = { page: bytes, notify: () => void channel.notify() };
        return { keys: { 'page-ref': refs[0], 'event-channel': channel.port }, shared };
      },
    });
    expect(await frontend.disconnected).toMatchObject({ message: 'a listener failed: a wrong answer' });
    nothingIsLeft();
  });

  it('writes no key of an earlier connection: those that are not published any more are removed', async () => {
    await world.serve();
    await world.attach();
    let extra: Record<string, number> = { extra: 1 };
    const frontend = await world.connect({
      publish: ({ link }) => {
        const { refs, bytes } = link.grant();
        const channel = link.bind(() => {});
        const keys = { 'page-ref': refs[0], 'event-channel': channel.port, ...extra };
        return { keys, shared: { page: bytes, notify: () => {} } };
      },
    });
    expect(await world.guestStore.tryRead(`${frontend.path}/extra`)).toBe('1');
    extra = {};
    await frontend.reconnect();
    expect(await world.guestStore.tryRead(`${frontend.path}/extra`)).toBeUndefined();
  });

  it('goes ahead alone when the backend does not answer', async () => {
    const server = await world.serve();
    await world.attach();
    const frontend = await world.connect({ closeTimeoutMs: 50 });
    await server.close();
    await frontend.close();
    nothingIsLeft();
  });

  it('is found by its domain too, from a store of domain 0', async () => {
    await world.serve();
    await world.attach();
    const frontend = await world.connect({ store: world.store, domid: world.guest.domid });
    expect(frontend).toBeInstanceOf(FrontendDevice);
    expect(frontend.path).toBe(`/local/domain/${world.guest.domid}/device/echo/0`);
    await frontend.close();
    await until(async () => (await world.state()) === XenbusState.closed);
  });
});
