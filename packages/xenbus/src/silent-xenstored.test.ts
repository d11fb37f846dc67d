import type { XenstoreTransport } from '@xenpv/xen-sys';
import { readTree, XenstoreClient, type XenstoreOperations } from '@xenpv/xenstore';
import { expect, it } from 'vitest';
import { BackendBus } from './bus.js';
import type { BackendHandler } from './handler/handler.js';
import { readOwnDomid } from './own-domid.js';
import { stateField, XenbusState } from './states.js';
import { attachDevice, listDevices } from './toolstack/attach.js';
import { createDevice, deleteDevice, removeDevice, unplugDevice } from './toolstack/halves.js';

/** A xenstored that takes requests and answers none. */
class Silence implements XenstoreTransport {
  readonly description = 'silence';
  readonly maxPayload = 4096;
  start(): void {}
  send(): void {}
  ref(): void {}
  unref(): void {}
  async close(): Promise<void> {}
  async [Symbol.asyncDispose](): Promise<void> {}
}

const address = { type: 'vshout', domid: 5, devid: 0 };
const halves = { backendDomid: 0, address, frontendType: 'vshout' };

it.each<[string, (store: XenstoreClient, signal: AbortSignal) => Promise<unknown>]>([
  ['readOwnDomid', (store, signal) => readOwnDomid(store, { signal })],
  ['attachDevice', (store, signal) => attachDevice(store, 5, { type: 'vshout' }, { signal })],
  ['listDevices', (store, signal) => listDevices(store, 5, { signal })],
  [
    'createDevice',
    (store, signal) => createDevice(store, { ...halves, backendValues: {}, frontendValues: {} }, { signal }),
  ],
  ['unplugDevice', (store, signal) => unplugDevice(store, 0, address, { signal })],
  ['removeDevice', (store, signal) => removeDevice(store, halves, { signal })],
  ['deleteDevice', (store, signal) => deleteDevice(store, halves, { signal })],
  ['BackendBus.start', (store, signal) => startBus({ store, signal })],
  ['BackendBus.start that knows its domain', (store, signal) => startBus({ store, signal, ownDomid: 0 })],
])('with a silent xenstored, an aborted signal ends %s', async (_, call) => {
  const store = XenstoreClient.open(new Silence());
  const abort = new AbortController();
  const called = call(store, abort.signal);
  abort.abort(new Error('enough'));
  await expect(called).rejects.toThrow('enough');
  await expect(call(store, abort.signal)).rejects.toThrow('enough');
  await store.close({ timeoutMs: 0 });
});

function startBus(options: { store: XenstoreClient; signal: AbortSignal; ownDomid?: number }): Promise<BackendBus> {
  const createHandler = () => ({}) as BackendHandler;
  return BackendBus.start({ ...options, types: ['vshout'], createHandler, stopTimeoutMs: 1 });
}

it.each<[string | undefined, XenbusState]>([
  ['4', XenbusState.connected],
  ['9', XenbusState.unknown],
  ['4x', XenbusState.unknown],
  [undefined, XenbusState.unknown],
])('a state %j in a schema is %j', async (text, state) => {
  const operations = { tryRead: async () => text } as Partial<XenstoreOperations> as XenstoreOperations;
  expect(await readTree(operations, 'x', { state: stateField })).toEqual({ state });
});
