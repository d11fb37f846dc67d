import { type EmulatedDomain, EmulatedHost } from '@xenpv/emulator';
import { attachDevice, errorNodePath, removeDevice } from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { VtemplateFrontend } from './frontend.js';
import { BACKEND_KEYS, TYPE } from './protocol.js';
import { serve } from './serve.js';

// A whole Xen host in this process: real shared memory, event channels and a xenstored.
let host: EmulatedHost;
let guest: EmulatedDomain;
let store: XenstoreClient;
let guestStore: XenstoreClient;

beforeEach(async () => {
  host = await EmulatedHost.create();
  guest = await host.createDomain({ name: 'guest' });
  store = XenstoreClient.open(await host.provider(0).connectXenstore());
  guestStore = XenstoreClient.open(await guest.provider.connectXenstore());
});

afterEach(async () => {
  await Promise.all([store.close(), guestStore.close()]);
  await host.close();
});

const attach = (backendKeys = {}) => attachDevice(store, guest.domid, { type: TYPE, backendKeys });
const connect = () => VtemplateFrontend.connect(guest.provider, guestStore);

it('answers a guest, until the toolstack removes the device', async () => {
  await using _server = await serve(host.provider(0), store);
  const attached = await attach({ factor: 3 });
  const frontend = await connect();
  expect(await frontend.device.readBackend(BACKEND_KEYS)).toEqual({ 'max-question': 1_000_000 });
  expect(await frontend.ask(14)).toBe(42);
  await removeDevice(store, attached);
  expect(await frontend.device.disconnected).toMatchObject({ code: 'ERR_CLOSED' });
  // Whatever happened before, nothing of the guest is held.
  expect(guest.usage()).toMatchObject({ grants: 0, ports: 0 });
});

it('serves a guest that closes and comes back with another page', async () => {
  await using _server = await serve(host.provider(0), store);
  await attach();
  const frontend = await connect();
  expect(await frontend.ask(1)).toBe(2);
  await frontend.device.reconnect();
  expect(await frontend.ask(4)).toBe(8);
  await frontend.device.close();
});

it('is replaced under a running guest', async () => {
  await attach();
  const first = await serve(host.provider(0), store);
  const frontend = await connect();
  expect(await frontend.ask(5)).toBe(10);
  await first.close();
  const answer = frontend.ask(6);
  await using _second = await serve(host.provider(0), store);
  expect(await answer).toBe(12);
  await frontend.device.close();
});

it('ends the connection of a guest that asks what it must not, and says why', async () => {
  await using _server = await serve(host.provider(0), store);
  const { address } = await attach();
  const frontend = await connect();
  await expect(frontend.ask(4_000_000)).rejects.toMatchObject({ code: 'ERR_CLOSED' });
  const error = await store.read(`${errorNodePath(0, address)}/error`);
  expect(error).toBe('EIO the question 4000000 is larger than 1000000');
});
