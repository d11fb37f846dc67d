import { EmulatedHost } from '@xenpv/emulator';
import type { XenstoreTransport } from '@xenpv/xen-sys';
import { FrontendDevice } from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Blkfront } from './index.js';

let host: EmulatedHost;
let store: XenstoreClient;
beforeAll(async () => {
  host = await EmulatedHost.create();
  store = XenstoreClient.open(await host.provider().connectXenstore());
});
afterAll(async () => {
  await store.close();
  await host.close();
});

/** Lets `left` requests through; the others are never answered, which `silent` is told. */
function silentAfter(left: number, inner: XenstoreTransport, silent: () => void): XenstoreTransport {
  let sent = 0;
  return new Proxy(inner, {
    get(target, name) {
      if (name === 'send') return (bytes: Uint8Array) => (sent++ < left ? target.send(bytes) : silent());
      const value = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** How long a silence lasts before the signal aborts. */
const PATIENCE_MS = 5;

type Provider = Awaited<ReturnType<EmulatedHost['createDomain']>>['provider'];
type Connect = (provider: Provider, store: XenstoreClient, signal: AbortSignal) => Promise<{ close(): Promise<void> }>;

/** Whether a frontend connects whose xenstored falls silent after so many requests; it has to end when the signal says so. */
async function connects(requests: number, connect: Connect): Promise<boolean> {
  const { domid, provider } = await host.createDomain({ name: 'guest', memoryMiB: 1 });
  const { backendPath, frontendPath } = await host.toolstack.attachDisk(domid, { vdev: 'xvda', target: 'x' });
  await store.write(`${backendPath}/state`, 2);
  const abort = new AbortController();
  const { signal } = abort;
  const giveUp = () => setTimeout(() => abort.abort(new Error('enough')), PATIENCE_MS);
  const own = XenstoreClient.open(silentAfter(requests, await provider.connectXenstore(), giveUp));
  const answered = store
    .waitFor(async (ops) => ((await ops.tryRead(`${frontendPath}/state`)) === '3' ? true : undefined), { signal })
    .then(async () => {
      await store.write(`${backendPath}/sectors`, 8);
      await store.write(`${backendPath}/sector-size`, 512);
      await store.write(`${backendPath}/state`, 4);
    })
    .catch(() => {});
  try {
    const frontend = await connect(provider, own, signal);
    const closing = frontend.close();
    await own.close({ timeoutMs: 20 });
    await closing;
    return true;
  } catch (error) {
    expect(error).toMatchObject({ message: 'enough' });
    await own.close({ timeoutMs: 0 });
    return false;
  } finally {
    abort.abort();
    await answered;
    // There is no backend that would follow.
    await store.write(`${backendPath}/state`, 6);
    await host.destroyDomain(domid);
  }
}

const CLOSE_MS = 10;
it.each<[string, Connect]>([
  [
    'Blkfront.connect',
    (provider, own, signal) =>
      Blkfront.connect({ provider, store: own, vdev: 'xvda', signal, closeTimeoutMs: CLOSE_MS }),
  ],
  [
    'FrontendDevice.connect',
    (provider, own, signal) =>
      FrontendDevice.connect({
        provider,
        store: own,
        type: 'vbd',
        devid: 51712,
        publish: () => ({ keys: { 'ring-ref': 8, 'event-channel': 1 }, shared: undefined }),
        signal,
        closeTimeoutMs: CLOSE_MS,
      }),
  ],
])('wherever xenstored falls silent, the signal ends %s', async (_, connect) => {
  let requests = 0;
  while (!(await connects(requests, connect))) requests++;
  expect(requests).toBeGreaterThan(10);
});
