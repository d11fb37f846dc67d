import { type EmulatedDomain, EmulatedHost, findFailingSeed } from '@xenpv/emulator';
import { FrontRing, RING_HEADER_BYTES } from '@xenpv/ring';
import { Errno, faultyProvider, type XenProvider } from '@xenpv/xen-sys';
import { attachDevice, errorNodePath, FrontendDevice, removeDevice } from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EntropyFrontend } from './frontend.js';
import { BACKEND_KEYS, MAX_LENGTH, SLOT_WORDS, Slot, TYPE } from './protocol.js';
import { serve } from './serve.js';

// Strict: a write to a page that the guest has taken back fails the test.
let host: EmulatedHost;
let guest: EmulatedDomain;
let store: XenstoreClient;
let guestStore: XenstoreClient;

beforeEach(async () => {
  host = await EmulatedHost.create({ strict: true });
  guest = await host.createDomain({ name: 'guest' });
  store = XenstoreClient.open(await host.provider().connectXenstore());
  guestStore = XenstoreClient.open(await guest.provider.connectXenstore());
});

afterEach(async () => {
  await Promise.all([store.close(), guestStore.close()]);
  await host.close();
});

const attach = (devid = 0) => attachDevice(store, guest.domid, { type: TYPE, devid });
const connect = (devid = 0) => EntropyFrontend.connect(guest.provider, guestStore, devid);
const serveHere = (provider: XenProvider = host.provider()) => serve(provider, store);

/** Of 4096 random bytes some 256 values are all there; of anything else that may be in the page, hardly. */
const values = (bytes: Uint8Array) => new Set(bytes).size;

it('fills a page with random bytes, and holds nothing of the guest after', async () => {
  await using _server = await serveHere();
  const attached = await attach();
  const frontend = await connect();
  expect(await frontend.device.readBackend(BACKEND_KEYS)).toEqual({ 'max-length': MAX_LENGTH });
  expect(await frontend.ask(MAX_LENGTH)).toBe(0);
  expect(values(frontend.device.shared.page)).toBeGreaterThan(250);
  await removeDevice(store, attached);
  expect(await frontend.device.disconnected).toMatchObject({ code: 'ERR_CLOSED' });
  expect(guest.usage()).toMatchObject({ grants: 0, mapped: 0, ports: 0 });
});

it('writes no more than it is asked for, and other bytes each time', async () => {
  await using _server = await serveHere();
  await attach();
  const frontend = await connect();
  const { page } = frontend.device.shared;
  page.fill(0);
  expect(await frontend.ask(100)).toBe(0);
  const first = page.toString('hex', 0, 100);
  expect(values(page.subarray(0, 100))).toBeGreaterThan(50);
  expect(values(page.subarray(100))).toBe(1);
  expect(await frontend.ask(100)).toBe(0);
  expect(page.toString('hex', 0, 100)).not.toBe(first);
  await frontend.device.close();
});

it('answers a full ring, again and again', async () => {
  await using _server = await serveHere();
  await attach();
  const frontend = await connect();
  for (let round = 0; round < 20; round++) {
    const answers = Array.from({ length: frontend.device.shared.ring.free }, () => frontend.ask(16));
    expect(new Set(await Promise.all(answers))).toEqual(new Set([0]));
  }
  await frontend.device.close();
});

describe('answers with an error, and serves on,', () => {
  it.each([
    ['no bytes', 0],
    ['more than a page', MAX_LENGTH + 1],
    ['more than 31 bits', 0xffffffff],
  ])('%s', async (_, length) => {
    await using _server = await serveHere();
    await attach();
    const frontend = await connect();
    const { page } = frontend.device.shared;
    page.fill(7);
    expect(await frontend.ask(length)).toBe(Errno.EINVAL);
    expect(values(page)).toBe(1);
    expect(await frontend.ask(8)).toBe(0);
    await frontend.device.close();
  });

  it('a page that was not granted, or to be read only', async () => {
    await using _server = await serveHere();
    await attach();
    const frontend = await connect();
    await using allocator = guest.provider.openGrantAllocator();
    const [readOnly = 0] = allocator.allocate(0, 1, { writable: false }).refs;
    for (const gref of [0, 0xffffffff, readOnly]) expect(await frontend.ask(8, gref)).toBe(Errno.EFAULT);
    expect(await frontend.ask(8)).toBe(0);
    await frontend.device.close();
  });

  it('a copy that the kernel refuses', async () => {
    const xen = faultyProvider(host.provider(), { copy: { at: 1, error: 'ENOMEM' } });
    await using _server = await serveHere(xen);
    await attach();
    const frontend = await connect();
    expect(await frontend.ask(8)).toBe(Errno.ENOMEM);
    expect(await frontend.ask(8)).toBe(0);
    expect(xen.unhit()).toEqual([]);
    await frontend.device.close();
  });
});

it('ends the connection of a guest with an impossible ring, says why, and serves it when it comes back', async () => {
  await using _server = await serveHere();
  const { address } = await attach();
  const frontend = await connect();
  const { ringPage, channel, ring } = frontend.device.shared;
  // The requests' producer index is the first word of a ring.
  ringPage.writeUInt32LE(ring.size + 1, 0);
  channel.notify();
  expect(await frontend.device.disconnected).toMatchObject({ code: 'ERR_CLOSED' });
  const error = await store.read(`${errorNodePath(0, address)}/error`);
  expect(error).toBe(`EIO the ring cannot hold the requests up to ${ring.size + 1}`);
  await frontend.device.reconnect();
  expect(await frontend.ask(8)).toBe(0);
  await frontend.device.close();
});

it('holds a guest whose ring became impossible while nobody was there, until it comes back with another', async () => {
  const { address } = await attach();
  const first = await serveHere();
  const frontend = await connect();
  await first.close();
  const { ringPage, ring } = frontend.device.shared;
  ringPage.writeUInt32LE(ring.size + 1, 0);
  await using second = await serveHere();
  await second.settled();
  expect(second.bus.get(address)?.held?.reason).toContain('requests wait in a ring of');
  await frontend.device.reconnect();
  expect(await frontend.ask(8)).toBe(0);
  await frontend.device.close();
});

it('serves a guest that closes and comes back with another ring', async () => {
  await using _server = await serveHere();
  await attach();
  const frontend = await connect();
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 5; i++) expect(await frontend.ask(64)).toBe(0);
    await frontend.device.reconnect();
  }
  await frontend.device.close();
  expect(guest.usage()).toMatchObject({ grants: 0, mapped: 0, ports: 0 });
});

describe('is replaced under a running guest', () => {
  it('that asks while nobody is there', async () => {
    await attach();
    const first = await serveHere();
    const frontend = await connect();
    expect(await frontend.ask(5)).toBe(0);
    await first.close();
    const answers = [frontend.ask(6), frontend.ask(0), frontend.ask(7)];
    await using _second = await serveHere();
    expect(await Promise.all(answers)).toEqual([0, Errno.EINVAL, 0]);
    await frontend.device.close();
  });

  it('after it was killed between an answer and the index that publishes it', async () => {
    await attach();
    const first = await serveHere();
    const frontend = await connect();
    await first.close();
    const { page, ringPage } = frontend.device.shared;
    page.fill(0);
    const answers = [frontend.ask(0), frontend.ask(MAX_LENGTH)];
    // What the killed one has put into the slots.
    for (const [i, status] of [Errno.EINVAL, 0].entries()) {
      ringPage.writeInt32LE(status, RING_HEADER_BYTES + 4 * (i * SLOT_WORDS + Slot.status));
    }
    await using _second = await serveHere();
    expect(await Promise.all(answers)).toEqual([Errno.EINVAL, 0]);
    expect(values(page)).toBeGreaterThan(250);
    await frontend.device.close();
  });

  it('before it has sent the event of an answer', async () => {
    await attach();
    const xen = faultyProvider(host.provider(), { notify: { at: 1, event: 'lost' } });
    const first = await serveHere(xen);
    const frontend = await connect();
    const answer = frontend.ask(8);
    await expect.poll(() => xen.unhit()).toEqual([]);
    await first.close();
    await using _second = await serveHere();
    expect(await answer).toBe(0);
    await frontend.device.close();
  });

  it('in any order of events, wake-ups and watches', async () => {
    const scene = async (seed: number) => {
      await using host = await EmulatedHost.create({ strict: true, seed });
      const guest = await host.createDomain({ name: 'guest' });
      await using store = XenstoreClient.open(await host.provider().connectXenstore());
      await using guestStore = XenstoreClient.open(await guest.provider.connectXenstore());
      await attachDevice(store, guest.domid, { type: TYPE });
      const first = await serve(host.provider(), store);
      const frontend = await EntropyFrontend.connect(guest.provider, guestStore);
      const answers = [1, 2, 3, 4].map((length) => frontend.ask(length));
      await first.close();
      answers.push(frontend.ask(5));
      await using _second = await serve(host.provider(), store);
      expect(await Promise.all(answers)).toEqual([0, 0, 0, 0, 0]);
      await frontend.device.close();
    };
    expect(await findFailingSeed(scene, { count: 30 })).toBe(undefined);
  });
});

it('forgets a guest that vanishes while it asks, and serves the others', async () => {
  await using server = await serveHere();
  const other = await host.createDomain({ name: 'other' });
  await using otherStore = XenstoreClient.open(await other.provider.connectXenstore());
  await attach();
  await attachDevice(store, other.domid, { type: TYPE });
  const frontend = await connect();
  const steady = await EntropyFrontend.connect(other.provider, otherStore);
  const answers = Array.from({ length: frontend.device.shared.ring.free }, () => frontend.ask(MAX_LENGTH));
  const settled = Promise.allSettled(answers);
  const before = host.usage(0);
  await host.destroyDomain(guest.domid);
  await expect.poll(() => [...server.devices.keys()]).toEqual([`${TYPE}-${other.domid}-0`]);
  expect(host.usage(0).ports).toBe(before.ports - 1);
  expect(guest.usage().mapped).toBe(0);
  expect(await steady.ask(8)).toBe(0);
  await steady.device.close();
  await settled;
});

it('serves one guest while another one asks without end', async () => {
  // With each page that the greedy one gets it has another request there, before the backend looks again.
  let pageRef: number | undefined;
  let askMore = () => {};
  const copySegment = ({ ref }: { readonly ref: number }) => {
    if (ref === pageRef) askMore();
    return undefined;
  };
  await using _server = await serveHere(faultyProvider(host.provider(), { copySegment }));
  await attach(0);
  await attach(1);
  const greedy = await FrontendDevice.connect({
    ...{ provider: guest.provider, store: guestStore, type: TYPE, devid: 0 },
    publish: ({ link }) => {
      const { refs, bytes } = link.grant();
      const ring = new FrontRing(bytes, SLOT_WORDS * 4);
      pageRef = link.grant().refs[0];
      while (!ring.full) ring.putRequest(Int32Array.of(0, pageRef, 16), 0, Slot.status);
      ring.pushRequests();
      const channel = link.bind(() => {});
      return { keys: { 'ring-ref': refs[0], 'event-channel': channel.port }, shared: bytes };
    },
  });
  let asked = 0;
  askMore = () => {
    asked++;
    greedy.shared.writeUInt32LE(greedy.shared.readUInt32LE(0) + 1, 0);
  };
  const modest = await connect(1);
  for (let i = 0; i < 20; i++) expect(await modest.ask(8)).toBe(0);
  expect(asked).toBeGreaterThan(0);
  askMore = () => {};
  await Promise.all([greedy.close(), modest.device.close()]);
});
