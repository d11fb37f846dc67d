import { EmulatedHost, type EmulatedHostOptions, findFailingSeed } from '@xenpv/emulator';
import { type FaultPlan, type FaultyProvider, faultyProvider, GrantStatus } from '@xenpv/xen-sys';
import { attachDevice, errorNodePath, FrontendDevice, XenbusState } from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import { expect, it } from 'vitest';
import { Page, serve, TYPE } from './adder.js';

/** A host with a guest that has one device. Its end shows that every fault happened, and nothing of the guest is held. */
async function scene(options: EmulatedHostOptions = {}) {
  const host = await EmulatedHost.create({ strict: true, ...options });
  const guest = await host.createDomain({ name: 'guest' });
  const store = await XenstoreClient.connect({ provider: host.provider(), reconnect: true });
  const guestStore = XenstoreClient.open(await guest.provider.connectXenstore());
  const { address } = await attachDevice(store, guest.domid, { type: TYPE });

  /** The backend, over a Xen with faults: a process of its own in all but memory. */
  const planned: FaultyProvider[] = [];
  const start = (plan: FaultPlan = {}) => {
    const xen = faultyProvider(host.provider(), plan);
    planned.push(xen);
    return serve(xen, store);
  };
  const unhit = () => planned.flatMap((xen) => xen.unhit());

  const connect = async (devid = 0) => {
    const device = await FrontendDevice.connect({
      ...{ provider: guest.provider, store: guestStore, type: TYPE, devid },
      publish: ({ link }) => {
        const { refs, bytes: page } = link.grant();
        const channel = link.bind(() => shared.look());
        const shared = { page, look: () => {}, poke: () => channel.notify() };
        return { keys: { 'page-ref': refs[0], 'event-channel': channel.port }, shared };
      },
    });
    const { page, poke } = device.shared;
    const add = (number: number) => {
      const asked = page.readUInt32LE(Page.asked) + 1;
      page.writeUInt32LE(number, Page.number);
      page.writeUInt32LE(asked, Page.asked);
      poke();
      return new Promise<number>((resolve) => {
        device.shared.look = () => {
          if (page.readUInt32LE(Page.answered) === asked) resolve(page.readUInt32LE(Page.total));
        };
      });
    };
    return { device, add, poke };
  };

  const end = async () => {
    expect(unhit()).toEqual([]);
    await Promise.all([store.close(), guestStore.close()]);
    expect(host.usage(0)).toMatchObject({ ports: 0, eventHandles: 0 });
    expect(guest.usage()).toMatchObject({ mapped: 0 });
    await host.close();
  };
  return { host, guest, store, address, start, unhit, connect, [Symbol.asyncDispose]: end };
}

it('adds once, though the event gets lost and that of the answer comes twice, and gives everything back', async () => {
  await using s = await scene();
  await using _backend = await s.start({ notify: { at: 1, event: 'doubled' } });
  const { device, add, poke } = await s.connect();
  using lost = s.host.faults.loseEvents({ domid: 0, at: 1 });
  const total = add(40);
  expect(lost.hits).toBe(1);
  poke();
  expect(await total).toBe(40);
  expect(await add(2)).toBe(42);
  await device.close();
  expect(s.guest.usage()).toMatchObject({ grants: 0, mapped: 0, ports: 0 });
});

it('refuses a guest whose page cannot be mapped, says why, and serves it when it comes back', async () => {
  await using s = await scene();
  await using _backend = await s.start();
  using failed = s.host.faults.failMaps({ domid: s.guest.domid, at: 1, status: GrantStatus.noSpace });
  await expect(s.connect()).rejects.toMatchObject({ code: 'ERR_HANDSHAKE' });
  expect(failed.hits).toBe(1);
  expect(await s.store.read(`${errorNodePath(0, s.address)}/error`)).toContain('ENOMEM');
  expect(await (await s.connect()).add(42)).toBe(42);
});

it('connects though transactions conflict at their commit', async () => {
  await using s = await scene();
  using conflicts = s.host.faults.conflict({ domid: 0, times: 3 });
  await using _backend = await s.start();
  expect(await (await s.connect()).add(42)).toBe(42);
  expect(conflicts.hits).toBe(3);
});

it('serves on without xenstored, and finds afterwards what was attached meanwhile', async () => {
  await using s = await scene();
  await using _backend = await s.start();
  const { add } = await s.connect();
  const cut = s.host.faults.cutXenstore({ domid: 0 });
  const { devid } = await s.host.toolstack.attachDevice(s.guest.domid, { type: TYPE, devid: 1 });
  expect(await add(42)).toBe(42);
  expect(cut.hits).toBeGreaterThan(0);
  cut.end();
  expect(await (await s.connect(devid)).add(7)).toBe(7);
});

it('is replaced after it has answered and before its event was sent', async () => {
  await using s = await scene();
  const first = await s.start({ notify: { at: 1, event: 'lost' } });
  const total = (await s.connect()).add(42);
  await expect.poll(s.unhit).toEqual([]);
  await first.close();
  await using _second = await s.start();
  expect(await total).toBe(42);
});

it('leaves a guest connected that it cannot take over yet, and goes on with it later', async () => {
  await using s = await scene();
  const first = await s.start();
  const { add } = await s.connect();
  await first.close();
  await using second = await s.start({ map: { at: 1, error: 'ENOMEM' } });
  await second.settled();
  const device = second.bus.get(s.address);
  expect(device).toMatchObject({ state: XenbusState.connected, held: { reason: expect.stringContaining('ENOMEM') } });
  device?.retry();
  expect(await add(42)).toBe(42);
});

it('is replaced under a guest that waits, whatever the order of events, wake-ups and watches', async () => {
  const replaced = async (seed: number) => {
    await using s = await scene({ seed });
    const first = await s.start();
    const { add } = await s.connect();
    const total = add(42);
    await first.close();
    await using _second = await s.start();
    expect(await total).toBe(42);
  };
  expect(await findFailingSeed(replaced, { count: 20 })).toBe(undefined);
});
